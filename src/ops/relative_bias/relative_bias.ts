/**
 * relative_bias: T5's learned bias as a function of the relative position, one row per head.
 *
 *   bias[h, rel + R] = table[bucket(rel), h]      rel = key position - query position in [-R, R], P = 2R + 1
 *
 * Half of the buckets hold one distance each, the others grow logarithmically up to maxDistance. Bidirectional
 * buckets spend one half on keys after the query, the others see only keys before it. Beyond `saturationRadius` the
 * bucket does not change any more, so attention clamps rel to [-R, R] and never needs a [query, key] array.
 *
 * Source: Raffel et al. 2020, arXiv:1910.10683, section 2.1; the logarithm in float32, as Hugging Face's T5.
 */
import { defineKernel } from '../../backend/kernel.ts';
import { record, run } from '../../tensor/autograd.ts';
import type { Tensor } from '../../tensor/tensor.ts';
import { relativeBiasBackwardPlan, relativeBiasForwardPlan } from './relative_bias.cuda.ts';

/** How positions fall into buckets, their number aside. */
export interface BucketOptions {
  /** Whether keys after the query have buckets of their own (encoder) or share the query's (decoder). */
  bidirectional: boolean;
  /** Distance at which the last bucket begins at the latest, in positions. */
  maxDistance: number;
}

/** The bucket in [0, numBuckets) of a relative position (key minus query). */
export function relativeBucket(relative: number, numBuckets: number, options: BucketOptions): number {
  const count = options.bidirectional ? Math.floor(numBuckets / 2) : numBuckets;
  const base = options.bidirectional && relative > 0 ? count : 0;
  const distance = options.bidirectional ? Math.abs(relative) : Math.max(0, -relative);
  const exact = Math.floor(count / 2);
  if (distance < exact) return base + distance;
  if (options.maxDistance <= exact) return base + count - 1;
  // Each step is rounded to float32: the edges of the buckets are where Hugging Face has them.
  const position = Math.fround(Math.log(Math.fround(distance / exact)));
  const share = Math.fround(position / Math.fround(Math.log(options.maxDistance / exact)));
  return base + Math.min(count - 1, exact + Math.floor(Math.fround(share * (count - exact))));
}

/** The distance from which on the bucket is constant on both sides: the R that loses nothing, in positions. */
export function saturationRadius(numBuckets: number, options: BucketOptions): number {
  const bucket = (relative: number) => relativeBucket(relative, numBuckets, options);
  let radius = Math.max(numBuckets, options.maxDistance);
  while (radius > 0 && bucket(radius - 1) === bucket(radius) && bucket(1 - radius) === bucket(-radius)) radius--;
  return radius;
}

const scalars = { bidirectional: 'i32', maxDistance: 'i32' } as const;
const requires = {
  'U >= 4': ({ U }: { U: number }) => U >= 4,
  'P odd': ({ P }: { P: number }) => P % 2 === 1,
};
const cases = [
  { sizes: { U: 4, H: 1, P: 1 }, scalars: { bidirectional: 1, maxDistance: 3 } },
  { sizes: { U: 32, H: 3, P: 37 }, scalars: { bidirectional: 1, maxDistance: 20 } },
  { sizes: { U: 32, H: 3, P: 37 }, scalars: { bidirectional: 0, maxDistance: 20 } },
  { sizes: { U: 32, H: 12, P: 257 }, scalars: { bidirectional: 1, maxDistance: 128 } }, // T5-base
  { sizes: { U: 32, H: 12, P: 257 }, scalars: { bidirectional: 0, maxDistance: 128 } },
  { sizes: { U: 16, H: 2, P: 11 }, scalars: { bidirectional: 0, maxDistance: 4 } }, // no room for a logarithm
];

export const relativeBiasForward = defineKernel({
  name: 'relative_bias_forward',
  inputs: { table: '[U,H]' },
  outputs: { bias: 'f32[H,P]' },
  scalars,
  requires,
  cases,
  reference({ table, bias }, { U, H, P }, { bidirectional, maxDistance }) {
    for (let i = 0; i < P; i++) {
      const bucket = relativeBucket(i - (P - 1) / 2, U, { bidirectional: bidirectional !== 0, maxDistance });
      for (let h = 0; h < H; h++) bias[h * P + i] = table[bucket * H + h]!;
    }
  },
  cuda: relativeBiasForwardPlan,
});

export const relativeBiasBackward = defineKernel({
  name: 'relative_bias_backward',
  inputs: { dbias: 'f32[H,P]' },
  outputs: { dtable: 'f32[U,H]' },
  scalars,
  requires,
  cases,
  reference({ dbias, dtable }, { U, H, P }, { bidirectional, maxDistance }) {
    dtable.fill(0);
    for (let i = 0; i < P; i++) {
      const bucket = relativeBucket(i - (P - 1) / 2, U, { bidirectional: bidirectional !== 0, maxDistance });
      for (let h = 0; h < H; h++) dtable[bucket * H + h]! += dbias[h * P + i]!;
    }
  },
  cuda: relativeBiasBackwardPlan,
});

/**
 * Bias by relative position, float32 [H, 2 radius + 1], from a table [buckets, H]; give it to `attention`.
 * @throws ShapeError
 */
export function relativeBias(table: Tensor, options: BucketOptions & { radius: number }): Tensor {
  const scalars = { bidirectional: options.bidirectional ? 1 : 0, maxDistance: options.maxDistance };
  const { bias } = run(relativeBiasForward, { table }, { scalars, sizes: { P: 2 * options.radius + 1 } });
  record([bias], [table], ([dbias]) => {
    const sizes = { U: table.shape[0]! };
    return [run(relativeBiasBackward, { dbias: dbias! }, { scalars, sizes }).dtable];
  });
  return bias;
}
