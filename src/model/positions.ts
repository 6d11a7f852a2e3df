/**
 * How a stack knows about positions (Raffel et al. 2020; ALiBi: Press et al. 2022, arXiv:2108.12409; RoPE: Su et al.
 * 2021, arXiv:2104.09864; FIRE: Li et al. 2024, arXiv:2310.04418; randomised positions: Ruoss et al. 2023,
 * arXiv:2305.16843).
 *
 * T5's tables, ALiBi and FIRE give a bias that the blocks of a stack share; RoPE rotates queries and keys. Positions are
 * those of self-attention only.
 */
import type { Backend } from '../backend/backend.ts';
import { fireBias } from '../ops/fire_bias/fire_bias.ts';
import { relativeBias, saturationRadius } from '../ops/relative_bias/relative_bias.ts';
import { rope } from '../ops/rope/rope.ts';
import { Tensor } from '../tensor/tensor.ts';
import { UsageError } from '../util/errors.ts';
import { philoxInto } from '../util/philox.ts';
import { rotaryDims, type T5Config } from './config.ts';
import type { Stack } from './parameter_table.ts';
import type { Fire, Positions } from './parameter_tree.ts';
import type { Pass } from './pass.ts';

/** Options of `attention`, and what happens to queries and keys before it. */
export interface PositionBias {
  attention: {
    bias?: Tensor; // f32 [H, 2R+1] by relative position
    dense?: Tensor; // f32 [B or 1,H,S,S]
    queryPositions?: Tensor; // i32 [S]
    keyPositions?: Tensor; // i32 [S]
  };
  /** Turns queries or keys [B,S,H,K]. */
  rotate: (x: Tensor, side: 'query' | 'key') => Tensor;
}

/** The stretch of self-attention that a bias is for. */
export interface Span {
  stack: Stack;
  backend: Backend;
  length: number;
  /** Positions within the packed examples, i32 [B,S], where they do not simply count from 0. */
  positions?: Tensor | undefined;
}

/** The tensors of a bias that may have gradients. */
export const biasesOf = ({ attention: { bias, dense } }: PositionBias): Tensor[] =>
  [bias, dense].filter((t) => t !== undefined);

/**
 * The positions for a block: its own, or those of the block before where it has none.
 * @throws UsageError if randomised positions have too small a range
 */
export function positionBias(p: Positions, before: PositionBias | undefined, span: Span, pass: Pass): PositionBias {
  if (before && !p.table && !p.fire) return before;
  const c = pass.config;
  const { stack, backend, length } = span;
  const drawn = drawnPositions(stack, length, pass);
  if (p.fire) return { attention: { dense: fire(p.fire, drawn, span, c) }, rotate: (x) => x };
  const at = drawn && Tensor.from(backend, 'i32', [length], drawn);
  const attention: PositionBias['attention'] = at ? { queryPositions: at, keyPositions: at } : {};
  const bias = distanceBias(p, { stack, backend, length: drawn ? c.max_sequence_length : length }, c);
  if (bias) attention.bias = bias;
  return { attention, rotate: rotation(c, at) };
}

/** The bias that depends on the distance alone, f32 [H, 2R+1], for distances below `length`. */
function distanceBias(p: Positions, { stack, backend, length }: Span, c: T5Config): Tensor | undefined {
  if (p.table) {
    const buckets = { bidirectional: stack === 'encoder', maxDistance: c.relative_attention_max_distance };
    const radius = saturationRadius(c.relative_attention_num_buckets, buckets);
    return relativeBias(p.table, { ...buckets, radius });
  }
  if (c.position_encoding_type !== 'alibi') return undefined;
  return Tensor.from(backend, 'f32', [c.num_heads, 2 * length - 1], alibiBias(c, stack, length));
}

/** What self-attention of one new token per row needs to know. */
export interface StepPositions {
  position: Tensor; // i32 [R]
  /** In which cache each row finds its past, i32 [R,C]. */
  origins: Tensor | undefined;
  bias: Tensor | undefined; // f32 [H, 2R+1] by relative position
  rotate: PositionBias['rotate'];
}

/** For each block of a decoder the bias of every token up to `capacity`; FIRE's changes with each: `stepBiases`. */
export function decodingBiases(
  blocks: readonly Positions[],
  backend: Backend,
  capacity: number,
  c: T5Config,
): (Tensor | undefined)[] {
  let bias: Tensor | undefined;
  return blocks.map((p, i) => {
    if (i === 0 || p.table) bias = distanceBias(p, { stack: 'decoder', backend, length: capacity }, c);
    return bias;
  });
}

/** FIRE's biases of the tokens at `position`, the same in all rows, for each block, by relative position up to `capacity`. */
export function stepBiases(
  blocks: readonly Positions[],
  position: Tensor,
  { at, capacity }: { at: number; capacity: number },
  c: T5Config,
): (Tensor | undefined)[] {
  const width = 2 * capacity - 1;
  // Positions from at - (capacity - 1) to at + (capacity - 1); those outside the text are never seen.
  const around = Int32Array.from({ length: width }, (_, i) => at + i - (capacity - 1));
  const keys = Tensor.from(position.backend, 'i32', [1, width], around);
  const query = position.part(0, 1).view(1, 1);
  let bias: Tensor | undefined;
  return blocks.map(({ fire }) => {
    if (fire) bias = fireBias(fire, query, keys, c.relative_attention_max_distance).view(c.num_heads, width);
    return bias;
  });
}

/**
 * RoPE's rotation of queries and keys, with xPos's decay if it is on, by positions i32 [S], or 0, 1, 2, …; nothing
 * turns with other encodings.
 * FAT5 differs: values do not turn, nothing turns in cross-attention, and angles never pass through bf16.
 */
export function rotation(c: T5Config, positions: Tensor | undefined): PositionBias['rotate'] {
  if (c.position_encoding_type !== 'rope') return (x) => x;
  const common = { rotated: rotaryDims(c), base: c.rotary_base, interleaved: c.rotary_interleaved, positions };
  const decay = c.rotary_scale_base === null ? 0 : 1 / c.rotary_scale_base;
  return (x, side) => rope(x, { ...common, power: side === 'query' ? decay : -decay });
}

/** FIRE normalises by the query's own position, so positions within packed examples matter. */
function fire(p: Fire, drawn: Int32Array | undefined, span: Span, c: T5Config): Tensor {
  const { backend, length } = span;
  const count = () => Tensor.from(backend, 'i32', [1, length], drawn ?? Int32Array.from({ length }, (_, i) => i));
  const positions = (drawn ? undefined : span.positions) ?? count();
  return fireBias(p, positions, positions, c.relative_attention_max_distance);
}

/**
 * ALiBi's slopes: 2^(-8(i+1)/n) for a power of two n; else those of the largest power p <= n, then every other one of
 * 2p's.
 */
export function alibiSlopes(heads: number): number[] {
  const power = 2 ** Math.floor(Math.log2(heads));
  const slopes = (n: number) => Array.from({ length: n }, (_, i) => 2 ** ((-8 * (i + 1)) / n));
  const more = slopes(2 * power).filter((_, i) => i % 2 === 0);
  return [...slopes(power), ...more.slice(0, heads - power)];
}

/**
 * ALiBi by relative position, [H, 2 reach - 1]: -slope |key - query|. Asymmetric: the first half of the heads sees only
 * keys up to the query, the other half only keys from the query on, and both halves have the same slopes.
 * FAT5 differs: a causal decoder is always symmetric, since half of its heads would see nothing but themselves.
 */
export function alibiBias(c: T5Config, stack: Stack, reach: number): Float32Array {
  const halves = c.alibi_mode === 'asymmetric' && stack === 'encoder';
  const half = c.num_heads / 2;
  const slopes = alibiSlopes(halves ? half : c.num_heads);
  const width = 2 * reach - 1;
  return Float32Array.from({ length: c.num_heads * width }, (_, i) => {
    const head = Math.floor(i / width);
    const relative = (i % width) - (reach - 1);
    if (halves && (head < half ? relative > 0 : relative < 0)) return Number.NEGATIVE_INFINITY;
    return -slopes[halves ? head % half : head]! * Math.abs(relative);
  });
}

/** Keeps these random words apart from dropout's and the initialisation's. */
const PURPOSE = 2;

/**
 * `length` positions drawn without repetition from max_sequence_length, in order, the first one 0; only while training.
 * FAT5 differs: queries and keys share them, so that a token is at distance 0 from itself.
 */
function drawnPositions(stack: Stack, length: number, { config, random }: Pass): Int32Array | undefined {
  if (!config.use_randomized_position_encoding || !random) return undefined;
  const range = config.max_sequence_length;
  if (length > range)
    throw new UsageError(`max_sequence_length is ${range}, expected at least the ${length} tokens of the ${stack}`);
  const words = new Uint32Array(4);
  const positions = new Int32Array(length);
  // Selection sampling: each position is taken with the share of those still wanted among those still left.
  for (let at = 1, taken = 1; taken < length; at++) {
    philoxInto(words, at, stack === 'encoder' ? 0 : 1, random.step, PURPOSE, random.seed, 0);
    if (words[0]! / 2 ** 32 < (length - taken) / (range - at)) positions[taken++] = at;
  }
  return positions;
}
