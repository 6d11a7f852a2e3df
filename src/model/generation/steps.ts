/** How a greedy session takes its tokens: a decoder step recorded as a graph, or many steps in one launch where a kernel has them. */
import type { Captured } from '../../backend/backend.ts';
import { activations } from '../../ops/activation/activation.ts';
import { advanceKernel } from '../../ops/advance/advance.ts';
import type { Cache } from '../../ops/attention_decode/attention_decode.ts';
import { canStep } from '../../ops/greedy_steps/greedy_steps.cuda.ts';
import { greedyRows, greedySteps } from '../../ops/greedy_steps/greedy_steps.ts';
import { canStepRows } from '../../ops/greedy_steps/rows.cuda.ts';
import { argmax } from '../../ops/top_k/top_k.ts';
import { run as runKernel } from '../../tensor/autograd.ts';
import { ALIGNMENT } from '../../tensor/parameters.ts';
import { dispose, scope } from '../../tensor/scope.ts';
import { Tensor } from '../../tensor/tensor.ts';
import { feedForwardKind } from '../config.ts';
import type { Source } from '../inputs.ts';
import { decodingBiases } from '../positions.ts';
import { headScale, type Seq2Seq } from '../seq2seq.ts';
import type { DeviceBeams } from './device_beams.ts';
import type { Run } from './run.ts';
import type { DeviceDraws } from './sampling.ts';
import { type Decoding, decodeStep, endDecoding, positionsOf, startDecoding } from './step.ts';

/** What tokens are written to, i32: the newest of each row, whether it has ended, its place, and all [rows, capacity]. */
export interface Written {
  token: Tensor;
  ended: Tensor;
  position: Tensor;
  history: Tensor;
}

/** A decoder's steps from tokens to tokens. */
export interface Steps {
  /** What the encoder's part of a session fills in: cross-attention's caches, the source's segments, each block's bias. */
  readonly cross: readonly Cache[];
  readonly crossSegments: Tensor | undefined;
  readonly biases: readonly (Tensor | undefined)[];
  /** In which cache each row finds its past, i32 [rows, capacity], where rows exchange them. */
  readonly origins: Tensor | undefined;
  /** Ready for the first tokens; called once, after something was written to `cross`. */
  prepare(): void;
  take(tokens: number): void;
  dispose(): void;
}

/** What steps read and write; it stays the session's. */
export interface Room {
  source: Source;
  capacity: number;
  written: Written;
  eos: Tensor | undefined;
  /** Draws the tokens, where they are not the likeliest. */
  draws: DeviceDraws | undefined;
  /** Chooses and orders them, in beam search. */
  beams: DeviceBeams | undefined;
}

/** Steps as a graph that is replayed. */
export function recordedSteps(
  { p, pass, settings }: Run,
  { source, capacity, written, eos, draws, beams }: Room,
): Steps {
  const decoding: Decoding = startDecoding(
    p,
    source,
    { capacity, rows: written.token.length / source.rows, caches: beams ? 'exchanged' : 'own' },
    pass,
  );
  const { position, origins } = decoding;
  decoding.position = written.position;
  const R = written.token.length;
  const step = () =>
    scope(() => {
      const logits = decodeStep(p, decoding, written.token.view(1, R), pass);
      if (beams) {
        beams.choose(logits, written, eos, origins!);
        return undefined;
      }
      const chosen = draws ? draws.choose(logits, written.position) : argmax(logits);
      const scalars = { pad: settings.pad_token_id };
      runKernel(advanceKernel, { chosen: chosen.view(R), eos, ...written }, { scalars });
      return undefined;
    });
  let recorded: Captured | undefined;
  return {
    ...decoding,
    prepare() {
      step(); // kernels are compiled
      recorded = p.head.backend.capture!(step);
    },
    take(tokens) {
      for (let i = 0; i < tokens; i++) recorded!.run();
    },
    dispose() {
      recorded?.dispose();
      endDecoding({ ...decoding, position });
    },
  };
}

/** Steps as launches of greedy_steps.ts's kernels; undefined where they do not do this model or so many rows. */
export function launchedSteps({ p, c, pass, settings }: Run, room: Room): Steps | undefined {
  const { source, capacity: C, written, eos, draws, beams } = room;
  const { rows: R, columns: S, segments } = source;
  const { head, parameters } = p;
  const { backend, dtype } = head;
  const { d_model: M, num_heads: H, d_kv: D, d_ff: hidden, position_encoding_type: encoding } = c;
  const L = p.decoder.blocks.length;
  const T = parameters.dtype;
  if (
    backend.name !== greedySteps.only ||
    draws ||
    beams ||
    parameters.compact ||
    encoding === 'rope' ||
    c.per_layer_position_bias
  )
    return undefined;
  const sizes = { R, M, H, D, L, S, C, hidden };
  const atOnce = canStep(sizes, T);
  if (!atOnce && !canStepRows(sizes, T)) return undefined;
  const places = placesOf(p);
  if (!places) return undefined;
  const space = (length: number) => Tensor.empty(backend, dtype, [L, R, length, H, D]);
  const [keys, values, crossKeys, crossValues] = [space(C), space(C), space(S), space(S)] as const;
  const size = R * S * H * D;
  const layer = (all: Tensor, l: number) => all.part(l * size, size).view(R, S, H, D);
  const biases = scope(() => decodingBiases(positionsOf(p), backend, C, c));
  const crossSegments = segments && Tensor.empty(backend, 'i32', [R, S]);
  const fixed = {
    ...{ parameters: parameters.values, places: Tensor.from(backend, 'i32', [L, places.length / L], places) },
    ...{ embedding: p.decoder.embedding, head, norm: p.decoder.finalNorm, bias: biases[0] },
    ...{ crossKeys, crossValues, crossSegments, eos, ...written, keys, values },
  };
  const { gated, activation } = feedForwardKind(c);
  const scalars = {
    ...{ alpha: headScale(c), scale: pass.config.attention_scale, eps: c.layer_norm_epsilon, hidden },
    ...{ gated: gated ? 1 : 0, kind: activations.indexOf(activation), pad: settings.pad_token_id },
  };
  const own = [keys, values, crossKeys, crossValues, fixed.places, crossSegments, biases[0]];
  const launch = (steps: number) =>
    void runKernel(atOnce ? greedySteps : greedyRows, fixed, { scalars: { ...scalars, steps } });
  let recorded: Captured | undefined;
  return {
    cross: p.decoder.blocks.map((_, l) => ({ keys: layer(crossKeys, l), values: layer(crossValues, l) })),
    ...{ crossSegments, biases, origins: undefined },
    prepare() {
      if (atOnce) return;
      launch(1); // kernels are compiled
      recorded = backend.capture!(() => launch(1));
    },
    take(steps) {
      if (recorded) for (let i = 0; i < steps; i++) recorded.run();
      else launch(steps);
    },
    dispose() {
      recorded?.dispose();
      dispose(...own.filter((t) => t !== undefined));
    },
  };
}

/** Where each layer's parameters begin, in units of ALIGNMENT; undefined where some lie elsewhere. */
function placesOf({ decoder, parameters }: Seq2Seq): number[] | undefined {
  const offsets = parameters.offsets();
  const places = decoder.blocks.flatMap(({ selfAttention: own, crossAttention: cross, feedForward: f }) =>
    [own.norm, own.q, own.k, own.v, own.o, cross.norm, cross.q, cross.o, f.norm, f.gate ?? f.up, f.up, f.down].map(
      (tensor) => (offsets.get(tensor) ?? Number.NaN) / ALIGNMENT,
    ),
  );
  return places.every(Number.isInteger) ? places : undefined;
}
