/**
 * attention_decode: attention of one new token per row over caches of keys and values, for decoding token by token,
 * and cache_append, which puts the tokens' keys and values into the caches.
 *
 *   out[r,h] = sum_n softmax_n(scale * q[r,h] . keys[o,n,h] + bias[h, clamp(n - position[r], -R, R) + R]) values[o,n,h]
 *
 * q, out [R,H,D]; caches [B,C,H,D] have room for C tokens. The cache o of row r is origins[r,n] for key n, so that beams
 * share their past instead of copying it; without origins the R / B rows of a group all have cache floor(r B / R). The
 * sum runs over n <= position[r] where there are positions, else over all C (cross-attention), and over
 * keySegments[o] >= 0. Positions lie in device memory, so that a step can be recorded once and replayed. Inference only:
 * no gradients. The result of a row does not depend on the other rows, nor on C. attention_decode_half and
 * cache_append_half have float32 tokens beside caches in float16, on the CPU: what is beyond its numbers becomes the nearest. Tokens
 * without positions fill the caches.
 *
 * Source: attention.ts; the result is that of its last query.
 */
import { defineKernel } from '../../backend/kernel.ts';
import { run } from '../../tensor/autograd.ts';
import { Tensor } from '../../tensor/tensor.ts';
import { ShapeError } from '../../util/errors.ts';
import { roundToFloat16 } from '../../util/float16.ts';
import { attend } from '../attention/reference.ts';
import { attentionDecodePlan, cacheAppendPlan } from './attention_decode.cuda.ts';

const full = { R: 2, B: 2, C: 300, H: 3, D: 64, P: 33 };
const optional = ['position', 'bias', 'keySegments', 'origins'] as const;
const wholeGroups = ({ R, B }: Record<'R' | 'B', number>) => R % B === 0;

const requires = {
  'P odd': ({ P }: { P: number }) => P === 0 || P % 2 === 1,
  'R a multiple of B': wholeGroups,
};
const fill = {
  position: (random: () => number, { C }: { C: number }) => Math.floor(random() * C),
  keySegments: (random: () => number) => Math.floor(random() * 3) - 1,
  origins: (random: () => number, { B }: { B: number }) => Math.floor(random() * B),
};
const cases: {
  sizes: Record<'R' | 'B' | 'C' | 'H' | 'D' | 'P', number>;
  scalars: { scale: number };
  absent?: (typeof optional)[number][];
}[] = [
  { sizes: { R: 1, B: 1, C: 1, H: 1, D: 8, P: 1 }, scalars: { scale: 1 }, absent: [...optional] },
  // some rows see nothing
  { sizes: { R: 2, B: 2, C: 1, H: 2, D: 5, P: 3 }, scalars: { scale: 0.5 }, absent: ['position', 'origins'] },
  { sizes: { R: 2, B: 2, C: 21, H: 2, D: 40, P: 9 }, scalars: { scale: 0.3 }, absent: ['origins'] },
  { sizes: { R: 6, B: 3, C: 21, H: 2, D: 40, P: 9 }, scalars: { scale: 0.3 } },
  { sizes: full, scalars: { scale: 0.2 }, absent: ['keySegments', 'origins'] },
  { sizes: full, scalars: { scale: 0.2 }, absent: ['keySegments'] },
  { sizes: { ...full, R: 6 }, scalars: { scale: 0.2 }, absent: ['position', 'bias', 'origins'] },
  { sizes: { ...full, D: 200 }, scalars: { scale: 0.1 }, absent: [...optional] },
];

interface DecodeArrays extends Record<'q' | 'keys' | 'values' | 'out', Float64Array> {
  position: Float64Array | undefined;
  bias: Float64Array | undefined;
  keySegments: Float64Array | undefined;
  origins: Float64Array | undefined;
}

function attendRows(
  { q, keys, values, position, bias, keySegments, origins, out }: DecodeArrays,
  { R, B, C, H, D, P }: Record<'R' | 'B' | 'C' | 'H' | 'D' | 'P', number>,
  { scale }: { scale: number },
): void {
  const none = { dense: undefined, querySegments: undefined, queryPositions: undefined, keyPositions: undefined };
  const cachesOf = (of: Float64Array, size: number, r: number) =>
    Float64Array.from({ length: C * size }, (_, i) => {
      const n = Math.floor(i / size);
      return of[((origins?.[r * C + n] ?? Math.floor((r * B) / R)) * C + n) * size + (i % size)]!;
    });
  for (let r = 0; r < R; r++)
    attend(
      {
        ...none,
        q: q.subarray(r * H * D, (r + 1) * H * D),
        k: cachesOf(keys, H * D, r),
        v: cachesOf(values, H * D, r),
        bias,
        keySegments: keySegments && cachesOf(keySegments, 1, r),
        rng: undefined,
        out: out.subarray(r * H * D, (r + 1) * H * D),
        lse: new Float64Array(H),
      },
      { B: 1, M: 1, N: C, H, D, P, E: 0, G: 0 },
      { scale, causal: position ? 1 : 0, queryOffset: position?.[r] ?? 0, dropout: 0, site: 0 },
    );
}

/** Which keys a row sees, and what positions add to its scores. */
const seen = { position: 'i32[R]?', bias: 'f32[H,P]?', keySegments: 'i32[B,C]?', origins: 'i32[R,C]?' } as const;

export const attentionDecode = defineKernel({
  name: 'attention_decode',
  inputs: { q: '[R,H,D]', keys: '[B,C,H,D]', values: '[B,C,H,D]', ...seen },
  updates: {},
  outputs: { out: '[R,H,D]' },
  scalars: { scale: 'f32' },
  requires,
  fill,
  cases,
  reference: attendRows,
  cuda: attentionDecodePlan,
});

/** Rows of one cache at different places. */
const places = (random: () => number, { C }: { C: number }, r: number) =>
  (r % 2 === 0 ? 0 : C >> 1) + Math.floor((random() * C) / 2);
const appended = [
  { sizes: { R: 1, B: 1, C: 1, H: 1, D: 3 } },
  { sizes: { R: 3, B: 3, C: 7, H: 2, D: 20 } },
  { sizes: { R: 4, B: 2, C: 8, H: 2, D: 20 } },
];

export const cacheAppend = defineKernel({
  name: 'cache_append',
  inputs: { k: '[R,H,D]', v: '[R,H,D]', position: 'i32[R]' },
  updates: { keys: '[B,C,H,D]', values: '[B,C,H,D]' },
  outputs: {},
  requires: { 'R a multiple of B': wholeGroups },
  fill: { position: places },
  cases: appended,
  reference({ k, v, position, keys, values }, { R, B, C, H, D }) {
    for (let r = 0; r < R; r++)
      for (let i = 0; i < H * D; i++) {
        const to = (Math.floor((r * B) / R) * C + position[r]!) * H * D + i;
        keys[to] = k[r * H * D + i]!;
        values[to] = v[r * H * D + i]!;
      }
  },
  cuda: cacheAppendPlan,
});

export const attentionDecodeHalf = defineKernel({
  name: 'attention_decode_half',
  types: ['f32'],
  inputs: { q: 'f32[R,H,D]', keys: 'f16[B,C,H,D]', values: 'f16[B,C,H,D]', ...seen },
  updates: {},
  outputs: { out: 'f32[R,H,D]' },
  scalars: { scale: 'f32' },
  requires,
  fill,
  cases,
  reference: attendRows,
});

const mostHalf = 65504;
const half = (x: number) => roundToFloat16(Math.min(mostHalf, Math.max(-mostHalf, x)));

export const cacheAppendHalf = defineKernel({
  name: 'cache_append_half',
  types: ['f32'],
  inputs: { k: 'f32[R,H,D]', v: 'f32[R,H,D]', position: 'i32[R]?' },
  updates: { keys: 'f16[B,C,H,D]', values: 'f16[B,C,H,D]' },
  outputs: {},
  requires: { 'R a multiple of B': wholeGroups },
  fill: { position: places, k: (random) => 1e5 * (random() * 2 - 1) ** 9 },
  cases: [...appended, { sizes: { R: 15, B: 3, C: 5, H: 2, D: 20 }, absent: ['position'] }],
  reference({ k, v, position, keys, values }, { R, B, C, H, D }) {
    for (let r = 0; r < R; r++)
      for (let i = 0; i < H * D; i++) {
        const at = position ? Math.floor((r * B) / R) * C + position[r]! : r;
        keys[at * H * D + i] = half(k[r * H * D + i]!);
        values[at * H * D + i] = half(v[r * H * D + i]!);
      }
  },
});

/** Keys and values of up to C tokens, [B,C,H,D] each. */
export interface Cache {
  keys: Tensor;
  values: Tensor;
}

/** What a call may have besides queries and caches; letters as above. */
export interface DecodeOptions {
  /** int32 [R]: the queries' indices; later keys are not seen. All are where there is none. */
  position?: Tensor | undefined;
  /** Additive bias by relative position, float32 [H, 2R + 1]; needs a position. */
  bias?: Tensor | undefined;
  /** int32 [B,C]; below 0: the key is not seen. */
  keySegments?: Tensor | undefined;
  /** int32 [R,C]: the cache in which row r finds key n; floor(r B / R) where there is none. */
  origins?: Tensor | undefined;
  /** Factor on q . k, 1 by default as in T5. */
  scale?: number;
}

/** Attention of q, R tokens of [H,D], over B caches: of q's shape. @throws ShapeError, BackendError for a bad position */
export function attendCache(q: Tensor, { keys, values }: Cache, options: DecodeOptions = {}): Tensor {
  const { position, bias, keySegments, origins, scale = 1 } = options;
  if (bias && !position)
    throw new ShapeError('attention_decode: bias is given without position, expected both or position alone');
  const inputs = { q: tokens(q), keys, values, position, bias, keySegments, origins };
  const scalars = { scale };
  const { out } = isHalfCache(keys, q)
    ? run(attentionDecodeHalf, inputs, { scalars })
    : run(attentionDecode, inputs, { scalars });
  return out.view(...q.shape);
}

/**
 * Puts keys and values of R tokens of [H,D] at their `position`, int32 [R], into the caches floor(r B / R).
 * @throws ShapeError, BackendError for a position outside the cache
 */
export function appendToCache({ keys, values }: Cache, k: Tensor, v: Tensor, position: Tensor): void {
  const given = { k: tokens(k), v: tokens(v), position, keys, values };
  if (isHalfCache(keys, k)) run(cacheAppendHalf, given);
  else run(cacheAppend, given);
}

/** Caches in float16 of float32 keys and values [B,C,H,D]. */
export function halfCache(k: Tensor, v: Tensor): Cache {
  const empty = () => Tensor.empty(k.backend, 'f16', k.shape);
  const cache = { keys: empty(), values: empty() };
  run(cacheAppendHalf, { k: tokens(k), v: tokens(v), ...cache });
  return cache;
}

const isHalfCache = (cache: Tensor, tokens: Tensor): boolean => cache.dtype === 'f16' && tokens.dtype === 'f32';

/** [1,R,H,D] or [R,1,H,D] as [R,H,D]. */
function tokens(x: Tensor): Tensor {
  const [H, D] = x.shape.slice(-2) as [number, number];
  return x.view(x.length / (H * D), H, D);
}
