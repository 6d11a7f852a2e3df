/**
 * A greedy decoding that can be started again: the encoder with what cross-attention reads of it, and one step with the choice
 * of its tokens, each recorded once for a shape. A model keeps the session of the last shape.
 */
import type { Captured } from '../../backend/backend.ts';
import { advanceKernel } from '../../ops/advance/advance.ts';
import { argmax } from '../../ops/top_k/top_k.ts';
import { accumulate } from '../../tensor/accumulate.ts';
import { run as runKernel } from '../../tensor/autograd.ts';
import { dispose, scope } from '../../tensor/scope.ts';
import { Tensor } from '../../tensor/tensor.ts';
import { encoder, type StackInput } from '../encoder.ts';
import { type Source, widened } from '../inputs.ts';
import { crossKeysValues } from '../layers.ts';
import type { Pass } from '../pass.ts';
import { decodingBiases } from '../positions.ts';
import type { Seq2Seq } from '../seq2seq.ts';
import type { Run } from './run.ts';
import { DeviceDraws } from './sampling.ts';
import { type Decoding, decodeStep, endDecoding, positionsOf, startDecoding } from './step.ts';

/** Sources are padded to a multiple of this many columns, and room for answers likewise, so that sessions fit again. */
const COLUMNS = 64;

const roundUp = (n: number) => Math.ceil(n / COLUMNS) * COLUMNS;

/** The source with padding up to a whole number of COLUMNS. */
const bucketed = (source: Source): Source => widened(source, roundUp(source.columns));

/** What a session must agree with a call in. */
const shapeOf = ({ rows, columns, segments }: Source, { settings: s }: Run): string =>
  [
    ...[rows, columns, segments ? 'segments' : '', s.do_sample ? 'drawn' : '', roundUp(s.max_length - 1)],
    ...[s.pad_token_id, 'eos', ...s.eos],
  ].join(' ');

export class GreedySession {
  readonly shape: string;
  readonly capacity: number;
  busy = true;
  private readonly p: Seq2Seq;
  private readonly pass: Pass;
  private readonly pad: number;
  private readonly input: StackInput;
  private readonly decoding: Decoding;
  private readonly state: Record<'token' | 'ended' | 'position' | 'history', Tensor>;
  private readonly eos: Tensor | undefined;
  private readonly draws: DeviceDraws | undefined;
  private readonly prefill: Captured;
  private readonly next: Captured;

  /** For sources of this one's shape; `source` is bucketed. */
  constructor(run: Run, source: Source) {
    const { p, pass, settings: s } = run;
    const { backend } = p.head;
    const ints = (shape: number[], values: ArrayLike<number>) => Tensor.from(backend, 'i32', shape, values);
    this.shape = shapeOf(source, run);
    this.capacity = roundUp(s.max_length - 1);
    this.p = p;
    this.pass = pass;
    this.pad = s.pad_token_id;
    this.decoding = startDecoding(p, source, { capacity: this.capacity, rows: 1, caches: 'own' }, pass);
    const { rows: R, columns } = source;
    const zeros = () => ints([R], new Int32Array(R));
    this.state = {
      token: zeros(),
      ended: zeros(),
      position: this.decoding.position,
      history: ints([R, this.capacity], new Int32Array(R * this.capacity)),
    };
    this.eos = s.eos.length > 0 ? ints([s.eos.length], s.eos) : undefined;
    this.draws = s.do_sample ? new DeviceDraws(backend, R, this.capacity) : undefined;
    this.draws?.write(run);
    const key = this.decoding.crossSegments;
    this.input = { ids: ints([R, columns], source.values), segments: { query: undefined, key } };
    const works = [() => this.readSource(), () => this.takeStep()] as const;
    for (const work of works) work(); // kernels are compiled
    this.prefill = backend.capture!(works[0]);
    this.next = backend.capture!(works[1]);
  }

  /** Reads a call's source and prompts: the first new token of every row is chosen. */
  start(run: Run): void {
    const { source, prompts } = run;
    const { ids, segments } = this.input;
    const { token, ended, position } = this.state;
    const wide = bucketed(source);
    ids.write(wide.values);
    if (wide.segments) segments.key!.write(wide.segments);
    position.write(new Int32Array(position.length));
    this.draws?.write(run);
    this.prefill.run();
    for (let i = 0; i < prompts[0]!.length; i++) {
      token.write(prompts.map((prompt) => prompt[i]!));
      ended.write(new Int32Array(ended.length));
      this.next.run();
    }
  }

  /** One more token of every row. */
  step(): void {
    this.next.run();
  }

  /** The tokens so far, [rows, capacity]: at n the one that follows the token at place n. */
  history(): Promise<ArrayLike<number>> {
    return this.state.history.read();
  }

  private readSource(): void {
    const { p, pass, decoding } = this;
    scope(() => {
      const states = encoder(p.encoder, this.input, pass);
      for (const [i, block] of p.decoder.blocks.entries()) {
        const { k, v } = crossKeysValues(block.crossAttention, states, pass);
        copy(k, decoding.cross[i]!.keys);
        copy(v, decoding.cross[i]!.values);
      }
      const biases = decodingBiases(positionsOf(p), p.head.backend, this.capacity, pass.config);
      for (const [i, bias] of biases.entries()) if (bias && bias !== biases[i - 1]) copy(bias, decoding.biases[i]!);
      return undefined;
    });
  }

  private takeStep(): void {
    const { p, pass, decoding, state, eos, pad, draws } = this;
    const R = state.token.length;
    scope(() => {
      const logits = decodeStep(p, decoding, state.token.view(1, R), pass);
      const chosen = draws ? draws.choose(logits, state.position) : argmax(logits);
      runKernel(advanceKernel, { chosen: chosen.view(R), eos, ...state }, { scalars: { pad } });
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
    this.next.dispose();
    endDecoding(this.decoding);
    const { token, ended, history } = this.state;
    this.draws?.dispose();
    dispose(token, ended, history, this.input.ids, ...(this.eos ? [this.eos] : []));
  }
}

const copy = (from: Tensor, to: Tensor): void =>
  void runKernel(accumulate, { x: from.view(from.length), y: to.view(to.length) }, { scalars: { beta: 0 } });

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
