/**
 * Batches for a training loop: made ahead by a worker thread in a ring of shared memory, or in the caller's own thread.
 * The sequence depends on corpus, objective and seed alone; a state continues it exactly.
 */
import { MessageChannel, type MessagePort, receiveMessageOnPort, Worker } from 'node:worker_threads';
import type { Batch } from '../util/batch.ts';
import { BackendError, FormatError, UsageError } from '../util/errors.ts';
import { type BatchShape, batchElements, batchOver, type DataStatistics } from './collator.ts';
import { batchShape, type CollatorOptions, openCollator, type SourceState } from './objective.ts';
import type { WorkerInput, WorkerMessage } from './source_worker.ts';

export interface BatchSource {
  /** The next batch; its arrays belong to the caller. @throws UsageError when closed, or the error of the data behind */
  next(): Promise<Batch>;
  /** Position after the last batch returned, null before the first of a new source. */
  state(): SourceState | null;
  /** What has been returned since the run began, null before the first batch. */
  stats(): DataStatistics | null;
  close(): Promise<void>;
}

export interface BatchSourceOptions extends CollatorOptions {
  /** Goes on after the batch that this state was taken at. */
  state?: SourceState | null;
  /** 'worker' (default) makes batches ahead in a thread; 'inline' when they are asked for. */
  mode?: 'worker' | 'inline';
  /** Batches made ahead. Default 4. */
  ahead?: number;
}

/** What a batch is accompanied by, as JSON text. */
interface Attachment {
  state: SourceState;
  statistics: DataStatistics;
}

/**
 * A source of batches without end.
 * @throws UsageError for impossible options
 */
export function createBatchSource(options: BatchSourceOptions): BatchSource {
  const { mode = 'worker', ahead = 4, state, ...collator } = options;
  const shape = batchShape(options.objective, options.rows, options.vocab_size);
  if (!Number.isInteger(ahead) || ahead < 1 || ahead > 1024)
    throw new UsageError(`ahead: is ${ahead}, expected an integer from 1 to 1024`);
  return mode === 'inline'
    ? new InlineSource(collator, state ?? undefined, shape)
    : new WorkerSource({ collator, state: state ?? null, ahead }, shape);
}

/** An attachment's text, parsed when asked for. */
class Attached {
  private text: string | null;
  constructor(state?: SourceState | null) {
    this.text = null;
    this.initial = state ?? null;
  }
  private readonly initial: SourceState | null;
  set(text: string): void {
    this.text = text;
  }
  state(): SourceState | null {
    return this.text === null ? this.initial : (JSON.parse(this.text) as Attachment).state;
  }
  statistics(): DataStatistics | null {
    return this.text === null ? null : (JSON.parse(this.text) as Attachment).statistics;
  }
}

class InlineSource implements BatchSource {
  private readonly open: ReturnType<typeof openCollator>;
  private readonly shape: BatchShape;
  private readonly attached: Attached;
  private batches: number;
  private closed = false;

  constructor(options: CollatorOptions, state: SourceState | undefined, shape: BatchShape) {
    this.open = openCollator(options, state);
    this.shape = shape;
    this.attached = new Attached(state);
    this.batches = state?.batches ?? 0;
  }

  async next(): Promise<Batch> {
    if (this.closed) throw closedError();
    const { collator, key } = this.open;
    const batch = batchOver(this.shape, new Int32Array(batchElements(this.shape)));
    collator.fill(batch);
    const state: SourceState = { version: 1, key, batches: ++this.batches, collator: collator.state() };
    this.attached.set(JSON.stringify({ state, statistics: collator.statistics() } satisfies Attachment));
    return batch;
  }

  state = (): SourceState | null => this.attached.state();
  stats = (): DataStatistics | null => this.attached.statistics();

  async close(): Promise<void> {
    if (this.closed) return;
    this.closed = true;
    this.open.collator.close();
  }
}

const closedError = (): UsageError => new UsageError('data: the batch source is closed');

const errorClasses: Record<string, new (message: string) => Error> = { UsageError, FormatError };

class WorkerSource implements BatchSource {
  private readonly shape: BatchShape;
  private readonly ring: Int32Array;
  private readonly taken = new Int32Array(new SharedArrayBuffer(4));
  private readonly worker: Worker;
  private readonly port: MessagePort;
  private readonly arrived: WorkerMessage[] = [];
  private readonly attached: Attached;
  private failure: Error | null = null;
  private closed = false;
  private wake: (() => void) | null = null;
  private turn: Promise<unknown> = Promise.resolve();

  constructor(input: Pick<WorkerInput, 'collator' | 'state' | 'ahead'>, shape: BatchShape) {
    this.shape = shape;
    this.attached = new Attached(input.state);
    this.ring = new Int32Array(new SharedArrayBuffer(4 * batchElements(shape) * input.ahead));
    const { port1, port2 } = new MessageChannel();
    this.port = port1;
    const workerData: WorkerInput = { ...input, shape, ring: this.ring, taken: this.taken, port: port2 };
    this.worker = new Worker(new URL('./source_worker.js', import.meta.url), { workerData, transferList: [port2] });
    const fail = (error: Error): void => {
      this.failure ??= error;
      this.wake?.();
    };
    this.worker.on('error', (cause) =>
      fail(new BackendError(`data: the batch worker failed: ${cause.message}`, { cause })),
    );
    this.worker.on('exit', (code) => fail(new BackendError(`data: the batch worker ended with status ${code}`)));
    this.port.on('message', (message: WorkerMessage) => {
      this.arrived.push(message);
      this.wake?.();
    });
    this.idle();
  }

  next(): Promise<Batch> {
    const result = this.turn.then(() => this.take());
    this.turn = result.catch(() => {});
    return result;
  }

  private async take(): Promise<Batch> {
    // Batches made ahead may still lie here: how far the worker came must not decide what a closed source does.
    if (this.closed) throw closedError();
    const message = this.arrived.shift() ?? this.poll() ?? (await this.wait());
    if ('error' in message) {
      const { name, message: text } = message.error;
      const Known = errorClasses[name];
      this.failure = Known ? new Known(text) : new BackendError(`data: the batch worker failed: ${name}: ${text}`);
      throw this.failure;
    }
    const elements = batchElements(this.shape);
    const words = this.ring.slice(message.slot * elements, (message.slot + 1) * elements);
    Atomics.add(this.taken, 0, 1);
    Atomics.notify(this.taken, 0);
    this.attached.set(message.attachment);
    // The slice lives in unshared memory: the slot can be filled again.
    return Object.assign(batchOver(this.shape, words), { tokens: message.tokens });
  }

  /** A message that has come in since the event loop last turned. */
  private poll(): WorkerMessage | undefined {
    return receiveMessageOnPort(this.port)?.message;
  }

  private async wait(): Promise<WorkerMessage> {
    this.worker.ref();
    this.port.ref();
    try {
      for (;;) {
        const message = this.arrived.shift() ?? this.poll();
        if (message) return message;
        if (this.failure) throw this.failure;
        await new Promise<void>((resolve) => (this.wake = resolve));
      }
    } finally {
      this.wake = null;
      this.idle();
    }
  }

  /** A source that nobody waits for does not keep the process alive. */
  private idle(): void {
    this.worker.unref();
    this.port.unref();
  }

  state = (): SourceState | null => this.attached.state();
  stats = (): DataStatistics | null => this.attached.statistics();

  async close(): Promise<void> {
    this.closed = true;
    this.failure ??= closedError();
    this.wake?.();
    await this.worker.terminate();
    this.port.close();
  }
}

/**
 * The held-out set: the first `batches` batches of a split, or as many as pass it once, always the same for a seed.
 * @throws UsageError for impossible options, FormatError for a bad shard
 */
export function createEvaluationBatches(options: CollatorOptions & { batches: number }): Batch[] {
  const shape = batchShape(options.objective, options.rows, options.vocab_size);
  const { collator, tokens } = openCollator({ split: 'validation', ...options });
  const passed = (): number => {
    const { denoisers, dropped_tokens } = collator.statistics();
    return denoisers.reduce((sum, { raw_tokens }) => sum + raw_tokens, dropped_tokens);
  };
  try {
    const batches: Batch[] = [];
    while (batches.length < options.batches && passed() < tokens) {
      const batch = batchOver(shape, new Int32Array(batchElements(shape)));
      collator.fill(batch);
      batches.push(batch);
    }
    return batches;
  } finally {
    collator.close();
  }
}
