/**
 * linear_add: a projection added to float32 numbers, the residual stream of inference in 16 bits.
 *
 *   y[n,o] = alpha * sum_i x[n,i] * weight[o,i] + beta * y[n,o]
 *
 * x [N,I], weight [O,I] of type T; y [N,O] float32. What is added has never been rounded to T, nor can it overflow T. Inference only: no
 * gradients.
 */
import { defineKernel } from '../../backend/kernel.ts';
import { run } from '../../tensor/autograd.ts';
import type { Tensor } from '../../tensor/tensor.ts';
import { linearFloat8Add } from '../linear_float8/linear_float8.ts';
import { isHalfOf, linearHalfAdd } from '../linear_half/linear_half.ts';
import { linearAddPlan } from './linear.cuda.ts';

export const linearAddKernel = defineKernel({
  name: 'linear_add',
  inputs: { x: '[N,I]', weight: '[O,I]' },
  updates: { y: 'f32[N,O]' },
  outputs: {},
  scalars: { alpha: 'f32', beta: 'f32' },
  cases: [
    { sizes: { N: 1, I: 1, O: 1 }, scalars: { alpha: 1, beta: 1 } },
    { sizes: { N: 5, I: 37, O: 29 }, scalars: { alpha: 0.5, beta: 0 } },
    { sizes: { N: 1, I: 515, O: 131 }, scalars: { alpha: 1, beta: 1 } },
    { sizes: { N: 67, I: 45, O: 101 }, scalars: { alpha: 1, beta: 0.5 } },
    { sizes: { N: 41, I: 801, O: 83 }, scalars: { alpha: 1, beta: 1 } },
    { sizes: { N: 129, I: 96, O: 200 }, scalars: { alpha: 1, beta: 1 } },
  ],
  reference({ x, weight, y }, { N, I, O }, { alpha, beta }) {
    for (let n = 0; n < N; n++)
      for (let o = 0; o < O; o++) {
        let sum = 0;
        for (let i = 0; i < I; i++) sum += x[n * I + i]! * weight[o * I + i]!;
        y[n * O + o] = alpha * sum + (beta === 0 ? 0 : beta * y[n * O + o]!);
      }
  },
  cuda: linearAddPlan,
});

/** Adds x [...,I] times the transpose of weight [O,I] to `stream`, float32 [...,O]. @throws ShapeError */
export function linearAdd(x: Tensor, weight: Tensor, stream: Tensor): void {
  if (weight.dtype === 'f8') {
    linearFloat8Add(x, weight, stream);
    return;
  }
  if (isHalfOf(x, [weight])) {
    linearHalfAdd(x, weight, stream);
    return;
  }
  const rows = (t: Tensor) => t.view(t.length / t.shape.at(-1)!, t.shape.at(-1)!);
  run(linearAddKernel, { x: rows(x), weight, y: rows(stream) }, { scalars: { alpha: 1, beta: 1 } });
}
