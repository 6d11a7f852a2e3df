/**
 * attention_decode: attention of one query per row over a cache of keys and values, for decoding token by token, and
 * cache_append, which puts a token's keys and values into the cache.
 *
 *   out[b,h] = sum_n softmax_n(scale * q[b,h] . keys[b,n,h] + bias[h, clamp(n - position, -R, R) + R]) values[b,n,h]
 *
 * q, out [B,H,D]; caches [B,C,H,D] have room for C tokens. The sum runs over n <= position where there is a position,
 * else over all C (cross-attention), and over keySegments >= 0. The position lies in device memory, so that a step can
 * be recorded once and replayed. Inference only: no gradients. To reorder a cache's rows for beam search, selectRows on
 * its view [B, C H D].
 *
 * Source: attention.ts; the result is that of its last query.
 */
import { defineKernel } from '../../backend/kernel.ts';
import { run } from '../../tensor/autograd.ts';
import type { Tensor } from '../../tensor/tensor.ts';
import { attend } from '../attention/reference.ts';

const full = { B: 2, C: 300, H: 3, D: 64, P: 33 };

export const attentionDecode = defineKernel({
  name: 'attention_decode',
  inputs: {
    q: '[B,H,D]',
    keys: '[B,C,H,D]',
    values: '[B,C,H,D]',
    position: 'i32[1]?',
    bias: 'f32[H,P]?',
    keySegments: 'i32[B,C]?',
  },
  updates: {},
  outputs: { out: '[B,H,D]' },
  scalars: { scale: 'f32' },
  requires: {
    'P odd': ({ P }: { P: number }) => P === 0 || P % 2 === 1,
    'no empty dimension': (s: Record<'B' | 'C' | 'H' | 'D', number>) => Math.min(s.B, s.C, s.H, s.D) > 0,
  },
  fill: {
    position: (random, { C }) => Math.floor(random() * C),
    keySegments: (random) => Math.floor(random() * 3) - 1,
  },
  cases: [
    { sizes: { B: 1, C: 1, H: 1, D: 8, P: 1 }, scalars: { scale: 1 }, absent: ['position', 'bias', 'keySegments'] },
    { sizes: { B: 2, C: 1, H: 2, D: 5, P: 3 }, scalars: { scale: 0.5 }, absent: ['position'] }, // some rows see nothing
    { sizes: { B: 2, C: 21, H: 2, D: 40, P: 9 }, scalars: { scale: 0.3 } },
    { sizes: full, scalars: { scale: 0.2 }, absent: ['keySegments'] },
    { sizes: full, scalars: { scale: 0.2 }, absent: ['position', 'bias'] },
    { sizes: { ...full, D: 200 }, scalars: { scale: 0.1 }, absent: ['position', 'bias', 'keySegments'] },
  ],
  reference({ q, keys, values, position, bias, keySegments, out }, { B, C, H, D, P }, { scale }) {
    const none = { dense: undefined, querySegments: undefined, queryPositions: undefined, keyPositions: undefined };
    attend(
      { ...none, q, k: keys, v: values, bias, keySegments, rng: undefined, out, lse: new Float64Array(B * H) },
      { B, M: 1, N: C, H, D, P, E: 0, G: 0 },
      { scale, causal: position ? 1 : 0, queryOffset: position?.[0] ?? 0, dropout: 0, site: 0 },
    );
  },
});

export const cacheAppend = defineKernel({
  name: 'cache_append',
  inputs: { k: '[B,H,D]', v: '[B,H,D]', position: 'i32[1]' },
  updates: { keys: '[B,C,H,D]', values: '[B,C,H,D]' },
  outputs: {},
  fill: { position: (random, { C }) => Math.floor(random() * C) },
  cases: [{ sizes: { B: 1, C: 1, H: 1, D: 3 } }, { sizes: { B: 3, C: 7, H: 2, D: 20 } }],
  reference({ k, v, position, keys, values }, { B, C, H, D }) {
    for (let b = 0; b < B; b++)
      for (let i = 0; i < H * D; i++) {
        keys[(b * C + position[0]!) * H * D + i] = k[b * H * D + i]!;
        values[(b * C + position[0]!) * H * D + i] = v[b * H * D + i]!;
      }
  },
});

/** Keys and values of up to C tokens, [B,C,H,D] each. */
export interface Cache {
  keys: Tensor;
  values: Tensor;
}

export interface DecodeOptions {
  /** int32 [1]: the query's index; later keys are not seen. All are where there is none. */
  position?: Tensor | undefined;
  /** Additive bias by relative position, float32 [H, 2R + 1]; needs a position. */
  bias?: Tensor | undefined;
  /** int32 [B,C]; below 0: the key is not seen. */
  keySegments?: Tensor | undefined;
  /** Factor on q . k, 1 by default as in T5. */
  scale?: number;
}

/** Attention of q [B,H,D] or [B,1,H,D] over a cache, of q's shape. @throws ShapeError, BackendError for a bad position */
export function attendCache(q: Tensor, { keys, values }: Cache, options: DecodeOptions = {}): Tensor {
  const { position, bias, keySegments, scale = 1 } = options;
  const inputs = { q: oneToken(q), keys, values, position, bias, keySegments };
  return run(attentionDecode, inputs, { scalars: { scale } }).out.view(...q.shape);
}

/**
 * Puts keys and values [B,H,D] or [B,1,H,D] of one token per row at `position`, int32 [1], into the cache.
 * @throws ShapeError, BackendError for a position outside the cache
 */
export function appendToCache({ keys, values }: Cache, k: Tensor, v: Tensor, position: Tensor): void {
  run(cacheAppend, { k: oneToken(k), v: oneToken(v), position, keys, values });
}

/** [B,1,H,D] as [B,H,D]. */
const oneToken = (x: Tensor): Tensor =>
  x.shape.length === 4 && x.shape[1] === 1 ? x.view(x.shape[0]!, x.shape[2]!, x.shape[3]!) : x;
