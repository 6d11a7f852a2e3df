/**
 * linear_int8: up to three weights in int8 on the same rows, which are quantised on the way. Inference only.
 *
 *   m_n = max_i |h[n,i]|     q[n,i] = round(h[n,i] * f32(127 / m_n))     y_j[n,o] = alpha * m_n/127 * s_j[o] * sum_i q[n,i] * weight_j[o,i]
 *
 * h = rms_norm(x, norm) where there is a norm [I], else x [N,I]. weight_j [O_j,I] within -127…127, packed (packed.ts), s_j [O_j] what a
 * step of each output's weights is worth, y_j [N,O_j]. Rounding is to the nearest, ties to even, in float32. Rows without a number
 * above 1e-30 count as 0; rows with an infinity or a NaN give NaN. The sums are integers: the bits of a row depend neither on the
 * other rows nor on their number.
 */
import type { FloatType } from '../../backend/dtype.ts';
import { defineKernel } from '../../backend/kernel.ts';
import { run } from '../../tensor/autograd.ts';
import type { Tensor } from '../../tensor/tensor.ts';
import { ShapeError } from '../../util/errors.ts';
import { roundToEven } from '../../util/round.ts';
import { packedDot } from './packed.ts';

/** Largest size of a quantised number. */
export const STEPS = 127;
/** Rows of smaller numbers count as zeros. */
const LEAST = 1e-30;
/** Terms whose sum of products always fits 32 bits. */
export const MOST_TERMS = 65536;

const third = ['third', 'scales3', 'y3'] as const;
const alone = ['second', 'scales2', 'y2', ...third] as const;

/** Values of kernels' cases: rows of a few sizes, some of zeros, whole numbers, and scales. */
export const int8Fills = {
  x: (random: () => number, { I }: { I: number }, index: number) =>
    Math.floor(index / I) % 5 === 3 ? 0 : (random() * 2 - 1) * 10 ** (index % 3),
  weight: (random: () => number) => Math.floor(random() * (2 * STEPS + 1)) - STEPS,
  scales: (random: () => number) => 0.001 + 0.01 * random(),
};

/** A row in whole numbers, and what a step is worth. */
export function quantised(row: Float64Array): { q: Float64Array; step: number } {
  const most = row.reduce((m, value) => Math.max(m, Math.abs(value)), 0); // NaN stays
  const inverse = most >= LEAST ? Math.fround(STEPS / most) : 0;
  const q = row.map((value) => (inverse === 0 ? 0 : roundToEven(Math.fround(value * inverse))));
  return { q, step: Number.isFinite(most) ? (most >= LEAST ? most / STEPS : 0) : Number.NaN };
}

/** rms_norm of a row. */
export function normed(row: Float64Array, weight: Float64Array, eps: number): Float64Array {
  const r = 1 / Math.sqrt(row.reduce((sum, value) => sum + value * value, 0) / row.length + eps);
  return row.map((value, i) => value * r * weight[i]!);
}

export const linearInt8Kernel = defineKernel({
  name: 'linear_int8',
  inputs: {
    x: 'f32[N,I]',
    norm: 'f32[I]?',
    first: 'i8[O,I]',
    scales1: 'f32[O]',
    second: 'i8[P,I]?',
    scales2: 'f32[P]?',
    third: 'i8[Q,I]?',
    scales3: 'f32[Q]?',
  },
  updates: {},
  outputs: { y1: '[N,O]', y2: '[N,P]?', y3: '[N,Q]?' },
  scalars: { alpha: 'f32', eps: 'f32' },
  requires: { [`I <= ${MOST_TERMS}`]: ({ I }) => I <= MOST_TERMS },
  cases: [
    { sizes: { N: 1, I: 1, O: 1, P: 0, Q: 0 }, scalars: { alpha: 1, eps: 0 }, absent: ['norm', ...alone] },
    { sizes: { N: 1, I: 515, O: 131, P: 67, Q: 3 }, scalars: { alpha: 0.5, eps: 0 }, absent: ['norm'] },
    { sizes: { N: 7, I: 61, O: 45, P: 18, Q: 0 }, scalars: { alpha: 1, eps: 0 }, absent: ['norm', ...third] },
    { sizes: { N: 8, I: 128, O: 2051, P: 2049, Q: 0 }, scalars: { alpha: 1, eps: 0 }, absent: ['norm', ...third] },
    { sizes: { N: 45, I: 192, O: 96, P: 32, Q: 64 }, scalars: { alpha: 0.5, eps: 0.1 } },
    { sizes: { N: 3, I: 77, O: 20, P: 0, Q: 0 }, scalars: { alpha: 1, eps: 1e-6 }, absent: [...alone] },
    { sizes: { N: 101, I: 801, O: 83, P: 0, Q: 0 }, scalars: { alpha: 1, eps: 0 }, absent: ['norm', ...alone] }, // ragged everywhere
    { sizes: { N: 67, I: 64, O: 33, P: 1, Q: 129 }, scalars: { alpha: 1, eps: 0 }, absent: ['norm'] },
    { sizes: { N: 610, I: 65, O: 17, P: 16, Q: 1 }, scalars: { alpha: 1, eps: 0 }, absent: ['norm'] },
    { sizes: { N: 611, I: 64, O: 17, P: 16, Q: 1 }, scalars: { alpha: 1, eps: 0 }, absent: ['norm'] },
  ],
  fill: {
    x: int8Fills.x,
    ...{ first: int8Fills.weight, second: int8Fills.weight, third: int8Fills.weight },
    ...{ scales1: int8Fills.scales, scales2: int8Fills.scales, scales3: int8Fills.scales },
  },
  reference({ x, norm, first, scales1, second, scales2, third, scales3, y1, y2, y3 }, { N, I }, { alpha, eps }) {
    for (let n = 0; n < N; n++) {
      const row = x.subarray(n * I, (n + 1) * I);
      const { q, step } = quantised(norm ? normed(row, norm, eps) : row);
      for (const [weight, scales, y] of [
        [first, scales1, y1],
        [second, scales2, y2],
        [third, scales3, y3],
      ]) {
        if (!weight || !scales || !y) continue;
        const O = scales.length;
        for (let o = 0; o < O; o++) y[n * O + o] = alpha * step * scales[o]! * packedDot(q, weight, o, O);
      }
    }
  },
});

/** What a call may have besides x and weights. */
export interface Int8Options {
  /** rms_norm of x before it is quantised: its weight [I], and what is added to the mean square. */
  norm?: Tensor | undefined;
  eps?: number;
  /** Type of the results, float32 by default. */
  type?: FloatType;
}

/** Up to three int8 weights [O_j,I] with their scales on one float32 x [...,I], times alpha: [...,O_j] each. @throws ShapeError */
export function linearInt8(
  x: Tensor,
  weights: readonly Tensor[],
  alpha: number,
  { norm, eps = 0, type = 'f32' }: Int8Options = {},
): Tensor[] {
  const leading = x.shape.slice(0, -1);
  const I = x.shape.at(-1)!;
  const [first, second, third] = weights as [Tensor, Tensor?, Tensor?];
  const without = [...(second ? [] : ['y2']), ...(third ? [] : ['y3'])];
  const inputs = {
    x: x.view(x.length / I, I),
    norm,
    first,
    scales1: scalesOf(first),
    second,
    scales2: second && scalesOf(second),
    third,
    scales3: third && scalesOf(third),
  };
  const { y1, y2, y3 } = run(linearInt8Kernel, inputs, { scalars: { alpha, eps }, without, type });
  return [y1, y2, y3].slice(0, weights.length).map((y, j) => y!.view(...leading, weights[j]!.shape[0]!));
}

/** The scales of a weight in int8. @throws ShapeError if it has none */
export function scalesOf(weight: Tensor): Tensor {
  if (!weight.scales) throw new ShapeError(`linear_int8: weight [${weight.shape}] of ${weight.dtype} has no scales`);
  return weight.scales;
}
