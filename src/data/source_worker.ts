/** The thread behind a batch source: fills slots of the shared ring until it is ended. */
import { type MessagePort, workerData } from 'node:worker_threads';
import { type BatchShape, batchElements, batchOver } from './collator.ts';
import { type CollatorOptions, openCollator, type SourceState } from './objective.ts';

export interface WorkerInput {
  collator: CollatorOptions;
  state: SourceState | null;
  /** Slots of the ring. */
  ahead: number;
  shape: BatchShape;
  /** [ahead, elements of a batch], shared. */
  ring: Int32Array;
  /** [1], shared: batches that have been copied out of the ring. */
  taken: Int32Array;
  port: MessagePort;
}

/** A filled slot, with state and statistics as JSON; or why there will be no more. */
export type WorkerMessage =
  | { slot: number; tokens: number; attachment: string }
  | { error: { name: string; message: string } };

function produce(input: WorkerInput): void {
  const { ahead, shape, ring, taken, port } = input;
  const { collator, key } = openCollator(input.collator, input.state ?? undefined);
  const elements = batchElements(shape);
  const slots = Array.from({ length: ahead }, (_, slot) =>
    batchOver(shape, ring.subarray(slot * elements, (slot + 1) * elements)),
  );
  const before = input.state?.batches ?? 0;
  for (let made = 0; ; made++) {
    for (let done = Atomics.load(taken, 0); ((made - done) | 0) >= ahead; done = Atomics.load(taken, 0))
      Atomics.wait(taken, 0, done);
    const slot = made % ahead;
    const batch = slots[slot]!;
    collator.fill(batch);
    const state: SourceState = { version: 1, key, batches: before + made + 1, collator: collator.state() };
    const attachment = JSON.stringify({ state, statistics: collator.statistics() });
    const message: WorkerMessage = { slot, tokens: batch.tokens, attachment };
    port.postMessage(message);
  }
}

const input = workerData as WorkerInput;
try {
  produce(input);
} catch (error) {
  const { name, message } = error as Error;
  input.port.postMessage({ error: { name, message } } satisfies WorkerMessage);
}
