/**
 * linear_half and linear_rows_half: products with weights that are stored in float16 while everything else is float32.
 *
 *   linear_half        y[n,o] = alpha * sum_i x[n,i] * weight[o,i] + beta * y[n,o]
 *   linear_rows_half   y_j[n,o] = alpha * sum_i x[n,i] * weight_j[o,i]
 *
 * x [N,I], weight_j [O_j,I], y_j [N,O_j], as linear_forward, linear_add and linear_rows have them. Weights are widened where
 * they are read: the result is that of float32 weights of the same values. Inference only.
 */
import { defineKernel } from '../../backend/kernel.ts';
import { run } from '../../tensor/autograd.ts';
import { Tensor } from '../../tensor/tensor.ts';

const alone = ['second', 'third', 'y2', 'y3'] as const;

export const linearHalfKernel = defineKernel({
  name: 'linear_half',
  inputs: { x: 'f32[N,I]', weight: 'f16[O,I]' },
  updates: { y: 'f32[N,O]' },
  outputs: {},
  scalars: { alpha: 'f32', beta: 'f32' },
  cases: [
    { sizes: { N: 1, I: 1, O: 1 }, scalars: { alpha: 1, beta: 0 } },
    { sizes: { N: 5, I: 37, O: 29 }, scalars: { alpha: 0.5, beta: 0 } },
    { sizes: { N: 67, I: 45, O: 101 }, scalars: { alpha: 1, beta: 1 } }, // ragged in every dimension
    { sizes: { N: 41, I: 801, O: 83 }, scalars: { alpha: 1, beta: 0.5 } }, // a sum longer than one block
  ],
  reference({ x, weight, y }, { N, I, O }, { alpha, beta }) {
    const before = y.slice();
    multiply(x, weight, y, { N, I, O, alpha });
    if (beta !== 0) before.forEach((value, i) => void (y[i]! += beta * value));
  },
});

export const linearRowsHalfKernel = defineKernel({
  name: 'linear_rows_half',
  inputs: { x: 'f32[N,I]', first: 'f16[O,I]', second: 'f16[P,I]?', third: 'f16[Q,I]?' },
  updates: {},
  outputs: { y1: 'f32[N,O]', y2: 'f32[N,P]?', y3: 'f32[N,Q]?' },
  scalars: { alpha: 'f32' },
  cases: [
    { sizes: { N: 1, I: 1, O: 1, P: 0, Q: 0 }, scalars: { alpha: 1 }, absent: [...alone] },
    { sizes: { N: 1, I: 515, O: 131, P: 67, Q: 3 }, scalars: { alpha: 0.5 } },
    { sizes: { N: 8, I: 40, O: 2051, P: 2049, Q: 0 }, scalars: { alpha: 1 }, absent: ['third', 'y3'] },
    { sizes: { N: 7, I: 61, O: 45, P: 18, Q: 0 }, scalars: { alpha: 1 }, absent: ['third', 'y3'] },
  ],
  reference({ x, first, second, third, y1, y2, y3 }, { N, I, O, P, Q }, { alpha }) {
    multiply(x, first, y1, { N, I, O, alpha });
    if (second && y2) multiply(x, second, y2, { N, I, O: P, alpha });
    if (third && y3) multiply(x, third, y3, { N, I, O: Q, alpha });
  },
});

interface Sizes {
  N: number;
  I: number;
  O: number;
  alpha: number;
}

function multiply(x: Float64Array, weight: Float64Array, y: Float64Array, { N, I, O, alpha }: Sizes): void {
  for (let n = 0; n < N; n++)
    for (let o = 0; o < O; o++) {
      let sum = 0;
      for (let i = 0; i < I; i++) sum += x[n * I + i]! * weight[o * I + i]!;
      y[n * O + o] = alpha * sum;
    }
}

/** Some float16 weights [O_j,I] on one x [...,I], times alpha: [...,O_j] each. @throws ShapeError */
export function linearHalf(x: Tensor, weights: readonly Tensor[], alpha: number): Tensor[] {
  const rows = rowsOf(x);
  return weights.map((weight) => {
    const O = weight.shape[0]!;
    const y = Tensor.empty(x.backend, 'f32', [rows.shape[0]!, O]);
    run(linearHalfKernel, { x: rows, weight, y }, { scalars: { alpha, beta: 0 } });
    return y.view(...x.shape.slice(0, -1), O);
  });
}

/** Adds x [...,I] times the transpose of a float16 weight [O,I] to `stream` [...,O]. @throws ShapeError */
export function linearHalfAdd(x: Tensor, weight: Tensor, stream: Tensor): void {
  run(linearHalfKernel, { x: rowsOf(x), weight, y: rowsOf(stream) }, { scalars: { alpha: 1, beta: 1 } });
}

/** Up to three float16 weights [O_j,I] on a few rows x [...,I], times alpha: [...,O_j] each. @throws ShapeError */
export function linearRowsHalf(x: Tensor, weights: readonly Tensor[], alpha: number): Tensor[] {
  const [first, second, third] = weights as [Tensor, Tensor?, Tensor?];
  const without = [...(second ? [] : ['y2']), ...(third ? [] : ['y3'])];
  const inputs = { x: rowsOf(x), first, second, third };
  const { y1, y2, y3 } = run(linearRowsHalfKernel, inputs, { scalars: { alpha }, without });
  return [y1, y2, y3].slice(0, weights.length).map((y, j) => y!.view(...x.shape.slice(0, -1), weights[j]!.shape[0]!));
}

/** Whether weights are stored in float16 for a float32 x. */
export const isHalfOf = (x: Tensor, [weight]: readonly Tensor[]): boolean =>
  weight!.dtype === 'f16' && x.dtype === 'f32';

const rowsOf = (x: Tensor): Tensor => x.view(x.length / x.shape.at(-1)!, x.shape.at(-1)!);
