/**
 * A decoding whose tokens the device chooses, which can be started again: the encoder with what cross-attention reads of it, recorded
 * once for a shape, and the steps of steps.ts. A model keeps the session of the last shape.
 */
import type { Captured } from '../../backend/backend.ts';
import { copyTo } from '../../tensor/copy.ts';
import { dispose, scope } from '../../tensor/scope.ts';
import { elements, Tensor } from '../../tensor/tensor.ts';
import { encoder, type StackInput } from '../encoder.ts';
import { bucketed, roundedUp, type Source } from '../inputs.ts';
import { crossKeysValues } from '../layers.ts';
import type { Pass } from '../pass.ts';
import { decodingBiases } from '../positions.ts';
import type { Seq2Seq } from '../seq2seq.ts';
import type { Finished } from './beam_search.ts';
import { DeviceBeams, looksAt } from './device_beams.ts';
import { type Run, rowsPerSource } from './run.ts';
import { DeviceDraws } from './sampling.ts';
import { positionsOf } from './step.ts';
import { launchedSteps, recordedSteps, type Steps, type Written } from './steps.ts';

/** What a session must agree with a call in. */
const shapeOf = ({ rows, columns, segments }: Source, run: Run): string => {
  const { settings: s } = run;
  return [
    ...[rows, columns, segments ? 'segments' : '', s.do_sample ? 'drawn' : '', rowsPerSource(s)],
    ...(s.num_beams > 1 ? ['beams', looksAt(run)] : []),
    roundedUp(s.max_length - 1),
    ...[s.pad_token_id, 'eos', ...s.eos],
  ].join(' ');
};

export class GreedySession {
  readonly shape: string;
  readonly capacity: number;
  busy = true;
  private readonly p: Seq2Seq;
  private readonly pass: Pass;
  private readonly input: StackInput;
  private readonly written: Written;
  private readonly eos: Tensor | undefined;
  private readonly draws: DeviceDraws | undefined;
  readonly beams: DeviceBeams | undefined;
  private readonly steps: Steps;
  private readonly prefill: Captured;

  /** For sources of this one's shape; `source` is bucketed. */
  constructor(run: Run, source: Source) {
    const { p, pass, settings: s } = run;
    const { backend } = p.head;
    const ints = (shape: number[], values: ArrayLike<number>) => Tensor.from(backend, 'i32', shape, values);
    this.shape = shapeOf(source, run);
    this.capacity = roundedUp(s.max_length - 1);
    this.p = p;
    this.pass = pass;
    const { rows, columns } = source;
    const R = rows * rowsPerSource(s);
    const zeros = (...shape: number[]) => ints(shape, new Int32Array(elements(shape)));
    this.written = { token: zeros(R), ended: zeros(R), position: zeros(R), history: zeros(R, this.capacity) };
    this.eos = s.eos.length > 0 ? ints([s.eos.length], s.eos) : undefined;
    this.draws = s.do_sample ? new DeviceDraws(backend, R, this.capacity) : undefined;
    this.draws?.write(run);
    this.beams = s.num_beams > 1 ? new DeviceBeams(backend, run, this.capacity) : undefined;
    const room = {
      source,
      capacity: this.capacity,
      written: this.written,
      eos: this.eos,
      draws: this.draws,
      beams: this.beams,
    };
    this.steps = launchedSteps(run, room) ?? recordedSteps(run, room);
    const key = this.steps.crossSegments;
    if (source.segments) key!.write(source.segments);
    this.input = { ids: ints([rows, columns], source.values), segments: { query: undefined, key } };
    const read = () => this.readSource();
    read(); // kernels are compiled
    this.prefill = backend.capture!(read);
    this.beams?.begin(run, this.steps.origins!);
    this.steps.prepare();
  }

  /** Reads a call's source and prompts: the first new token of every row is chosen. */
  start(run: Run): void {
    const { source } = run;
    const prompts = promptsOf(run);
    const { ids, segments } = this.input;
    const { token, ended, position } = this.written;
    const wide = bucketed(source);
    ids.write(wide.values);
    if (wide.segments) segments.key!.write(wide.segments);
    position.write(new Int32Array(position.length));
    this.draws?.write(run);
    this.beams?.begin(run, this.steps.origins!);
    this.prefill.run();
    for (let i = 0; i < prompts[0]!.length; i++) {
      token.write(prompts.map((prompt) => prompt[i]!));
      ended.write(new Int32Array(ended.length));
      this.steps.take(1);
    }
  }

  /** Some more tokens of every row. */
  take(tokens: number): void {
    if (tokens > 0) this.steps.take(tokens);
  }

  /** The tokens so far, [rows, capacity]: at n the one that follows the token at place n. */
  history(): Promise<ArrayLike<number>> {
    return this.written.history.read();
  }

  /** What beams have found. */
  answers(run: Run): Promise<Finished[][]> {
    return this.beams!.answers(run, this.written.history);
  }

  private readSource(): void {
    const { p, pass, steps } = this;
    scope(() => {
      const states = encoder(p.encoder, this.input, pass);
      for (const [i, block] of p.decoder.blocks.entries()) {
        const { k, v } = crossKeysValues(block.crossAttention, states, pass);
        copyTo(k, steps.cross[i]!.keys);
        copyTo(v, steps.cross[i]!.values);
      }
      const biases = decodingBiases(positionsOf(p), p.head.backend, this.capacity, pass.config);
      for (const [i, bias] of biases.entries()) if (bias && bias !== biases[i - 1]) copyTo(bias, steps.biases[i]!);
      return undefined;
    });
  }

  /** The call is over; the model may use the session again. */
  close(): void {
    this.busy = false;
    if (kept.get(this.p.head) !== this) this.dispose();
  }

  dispose(): void {
    this.prefill.dispose();
    this.steps.dispose();
    this.draws?.dispose();
    this.beams?.dispose();
    dispose(...Object.values(this.written), this.input.ids, ...(this.eos ? [this.eos] : []));
  }
}

/** What each row begins with. */
export const promptsOf = ({ prompts, settings }: Run): (readonly number[])[] =>
  prompts.flatMap((prompt) => Array.from({ length: rowsPerSource(settings) }, () => prompt));

/** By the model's head: the session that may be used again. */
const kept = new WeakMap<Tensor, GreedySession>();

/** A session for a call, to be closed; the model's own if it fits and is free. */
export function openSession(run: Run): GreedySession {
  const source = bucketed(run.source);
  const { head } = run.p;
  const last = kept.get(head);
  if (last && !last.busy && last.shape === shapeOf(source, run)) {
    last.busy = true;
    return last;
  }
  if (last?.busy) return new GreedySession(run, source);
  last?.dispose();
  kept.delete(head);
  const session = new GreedySession(run, source);
  kept.set(head, session);
  return session;
}

/** Gives back what a model keeps for its next call of generate. */
export function endSession({ head }: Seq2Seq): void {
  const last = kept.get(head);
  kept.delete(head);
  if (last && !last.busy) last.dispose();
}
