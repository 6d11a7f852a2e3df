/**
 * linear_rows: up to three weights on the same few rows, for decoding.
 *
 *   y_j[n,o] = alpha * sum_i x[n,i] * weight_j[o,i]
 *
 * x [N,I], weight_j [O_j,I], y_j [N,O_j]; sums in float32. The bits of a row do not depend on the other rows nor on their
 * number, on a GPU up to eight of them: a request in a batch gives what it gives alone. Reading the weights is what this costs. Inference only: no
 * gradients.
 */
import { defineKernel } from '../../backend/kernel.ts';
import { run } from '../../tensor/autograd.ts';
import type { Tensor } from '../../tensor/tensor.ts';
import { isHalfOf, linearRowsHalf } from '../linear_half/linear_half.ts';
import { linearInt8 } from '../linear_int8/linear_int8.ts';
import { linearRowsPlan } from './linear_rows.cuda.ts';

const alone = ['second', 'third', 'y2', 'y3'] as const;

export const linearRowsKernel = defineKernel({
  name: 'linear_rows',
  inputs: { x: '[N,I]', first: '[O,I]', second: '[P,I]?', third: '[Q,I]?' },
  updates: {},
  outputs: { y1: '[N,O]', y2: '[N,P]?', y3: '[N,Q]?' },
  scalars: { alpha: 'f32' },
  cases: [
    { sizes: { N: 1, I: 1, O: 1, P: 0, Q: 0 }, scalars: { alpha: 1 }, absent: [...alone] },
    { sizes: { N: 1, I: 515, O: 131, P: 67, Q: 3 }, scalars: { alpha: 0.5 } },
    { sizes: { N: 3, I: 264, O: 50, P: 13, Q: 77 }, scalars: { alpha: 0.5 } },
    { sizes: { N: 8, I: 40, O: 4099, P: 4101, Q: 0 }, scalars: { alpha: 1 }, absent: ['third', 'y3'] },
    { sizes: { N: 7, I: 61, O: 45, P: 18, Q: 0 }, scalars: { alpha: 1 }, absent: ['third', 'y3'] },
    { sizes: { N: 37, I: 96, O: 200, P: 0, Q: 0 }, scalars: { alpha: 1 }, absent: [...alone] },
  ],
  reference({ x, first, second, third, y1, y2, y3 }, { N, I }, { alpha }) {
    for (const [weight, y] of [
      [first, y1],
      [second, y2],
      [third, y3],
    ]) {
      if (!weight || !y) continue;
      const O = weight.length / I;
      for (let n = 0; n < N; n++)
        for (let o = 0; o < O; o++) {
          let sum = 0;
          for (let i = 0; i < I; i++) sum += x[n * I + i]! * weight[o * I + i]!;
          y[n * O + o] = alpha * sum;
        }
    }
  },
  cuda: linearRowsPlan,
});

/**
 * Up to three weights [O_j,I] on one x [...,I]: [...,O_j] each. @throws ShapeError
 */
export function linearRows(x: Tensor, weights: readonly Tensor[], { alpha = 1 }: { alpha?: number } = {}): Tensor[] {
  if (weights[0]!.scales) return linearInt8(x, weights, alpha);
  if (isHalfOf(x, weights)) return linearRowsHalf(x, weights, alpha);
  const leading = x.shape.slice(0, -1);
  const I = x.shape.at(-1)!;
  const [first, second, third] = weights as [Tensor, Tensor?, Tensor?];
  const without = [...(second ? [] : ['y2']), ...(third ? [] : ['y3'])];
  const inputs = { x: x.view(x.length / I, I), first, second, third };
  const { y1, y2, y3 } = run(linearRowsKernel, inputs, { scalars: { alpha }, without });
  return [y1, y2, y3].slice(0, weights.length).map((y, j) => y!.view(...leading, weights[j]!.shape[0]!));
}
