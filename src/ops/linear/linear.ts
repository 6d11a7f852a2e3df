/**
 * linear: matrix product with a weight as Hugging Face stores it, one row per output. T5 has no biases.
 *
 *   y[n,o] = alpha * sum_i x[n,i] * weight[o,i]
 *
 * x [N,I] is any [...,I] flattened to rows; weight [O,I]; y [N,O]. Sums are taken in float32, whatever the type.
 * The backward kernels add to what is there: `grad = alpha * (...) + beta * grad`, with beta 0 the old contents are not
 * read (they may be NaN). dweight is float32, as the gradients of parameters are. Weights in int8 are linear_int8's,
 * in float8 linear_float8's, in float16 beside a float32 x linear_half's.
 */
import type { FloatType } from '../../backend/dtype.ts';
import { defineKernel } from '../../backend/kernel.ts';
import { gradientSlot, isRecording, record, run, withValues } from '../../tensor/autograd.ts';
import type { Tensor } from '../../tensor/tensor.ts';
import { linearFloat8 } from '../linear_float8/linear_float8.ts';
import { isHalfOf, linearHalf } from '../linear_half/linear_half.ts';
import { linearInt8 } from '../linear_int8/linear_int8.ts';
import { linearBackwardInputPlan, linearBackwardWeightPlan, linearForwardPlan } from './linear.cuda.ts';
import { isSeveral, linearSeveral } from './linear_several.ts';

export const linearForward = defineKernel({
  name: 'linear_forward',
  inputs: { x: '[N,I]', weight: '[O,I]' },
  outputs: { y: '[N,O]' },
  scalars: { alpha: 'f32' },
  cases: [
    { sizes: { N: 1, I: 1, O: 1 }, scalars: { alpha: 1 } },
    { sizes: { N: 5, I: 37, O: 29 }, scalars: { alpha: 0.5 } },
    { sizes: { N: 1, I: 515, O: 131 }, scalars: { alpha: 1 } }, // decoding one token
    { sizes: { N: 67, I: 45, O: 101 }, scalars: { alpha: 1 } }, // ragged in every dimension
    { sizes: { N: 41, I: 801, O: 83 }, scalars: { alpha: 1 } }, // a sum longer than one block
  ],
  reference({ x, weight, y }, { N, I, O }, { alpha }) {
    for (let n = 0; n < N; n++)
      for (let o = 0; o < O; o++) {
        let sum = 0;
        for (let i = 0; i < I; i++) sum += x[n * I + i]! * weight[o * I + i]!;
        y[n * O + o] = alpha * sum;
      }
  },
  cuda: linearForwardPlan,
});

export const linearBackwardInput = defineKernel({
  name: 'linear_backward_input',
  inputs: { dy: '[N,O]', weight: '[O,I]' },
  updates: { dx: '[N,I]' },
  outputs: {},
  scalars: { alpha: 'f32', beta: 'f32' },
  cases: [
    { sizes: { N: 1, I: 1, O: 1 }, scalars: { alpha: 1, beta: 1 } },
    { sizes: { N: 5, I: 37, O: 29 }, scalars: { alpha: 0.5, beta: 0 } },
    { sizes: { N: 67, I: 101, O: 45 }, scalars: { alpha: 1, beta: 0.5 } },
    { sizes: { N: 41, I: 83, O: 801 }, scalars: { alpha: 1, beta: 1 } },
  ],
  reference({ dy, weight, dx }, { N, I, O }, { alpha, beta }) {
    for (let n = 0; n < N; n++)
      for (let i = 0; i < I; i++) {
        let sum = 0;
        for (let o = 0; o < O; o++) sum += dy[n * O + o]! * weight[o * I + i]!;
        dx[n * I + i] = alpha * sum + (beta === 0 ? 0 : beta * dx[n * I + i]!);
      }
  },
  cuda: linearBackwardInputPlan,
});

export const linearBackwardWeight = defineKernel({
  name: 'linear_backward_weight',
  inputs: { dy: '[N,O]', x: '[N,I]' },
  updates: { dweight: 'f32[O,I]' },
  outputs: {},
  scalars: { alpha: 'f32', beta: 'f32' },
  cases: [
    { sizes: { N: 1, I: 1, O: 1 }, scalars: { alpha: 1, beta: 1 } },
    { sizes: { N: 5, I: 37, O: 29 }, scalars: { alpha: 0.5, beta: 0 } },
    { sizes: { N: 45, I: 101, O: 67 }, scalars: { alpha: 1, beta: 0.5 } },
    { sizes: { N: 801, I: 83, O: 41 }, scalars: { alpha: 1, beta: 1 } },
  ],
  reference({ dy, x, dweight }, { N, I, O }, { alpha, beta }) {
    for (let o = 0; o < O; o++)
      for (let i = 0; i < I; i++) {
        let sum = 0;
        for (let n = 0; n < N; n++) sum += dy[n * O + o]! * x[n * I + i]!;
        dweight[o * I + i] = alpha * sum + (beta === 0 ? 0 : beta * dweight[o * I + i]!);
      }
  },
  cuda: linearBackwardWeightPlan,
});

/**
 * x [...,I] times the transpose of weight [O,I], times alpha (1 when left out): [...,O].
 * @throws ShapeError
 */
export function linear(x: Tensor, weight: Tensor, { alpha = 1 }: { alpha?: number } = {}): Tensor {
  return project(x, [weight], alpha)[0]!;
}

/**
 * Several weights [O_j,I] on one x [...,I]: [...,O_j] each. Matrices that lie together, [G,O,I], count as one of G O rows. Their parts
 * of x's gradient add up in place. @throws ShapeError
 */
export function linears(x: Tensor, weights: readonly Tensor[]): Tensor[] {
  return project(x, weights, 1);
}

function project(x: Tensor, weights: readonly Tensor[], alpha: number): Tensor[] {
  if (weights[0]!.dtype === 'f8') return linearFloat8(x, weights, { alpha, type: x.dtype as FloatType });
  if (weights[0]!.scales) return linearInt8(x, weights, alpha);
  if (isHalfOf(x, weights)) return linearHalf(x, weights, alpha);
  const leading = x.shape.slice(0, -1);
  const width = x.shape.at(-1)!;
  const rows = x.view(x.length / width, width);
  const outputsOf = (weight: Tensor) => weight.length / weight.shape.at(-1)!;
  const matrix = (weight: Tensor) => weight.view(outputsOf(weight), weight.shape.at(-1)!);
  const atOnce = alpha === 1 && isSeveral(weights) && !isRecording() && x.backend.name !== 'cuda';
  const products = atOnce
    ? linearSeveral(rows, weights.map(matrix))
    : weights.map((weight) => run(linearForward, { x: rows, weight: matrix(weight) }, { scalars: { alpha } }).y);
  const outputs = products.map((y, j) => y.view(...leading, outputsOf(weights[j]!)));
  record(outputs, [x, ...weights], (dys) => {
    weights.forEach((weight, j) => {
      if (!dys[j]) return;
      const dy = dys[j].view(rows.shape[0]!, outputsOf(weight));
      if (x.needsGrad) {
        const { grad, beta } = gradientSlot(x);
        const given = { dy, weight: matrix(weight), dx: grad.view(...rows.shape) };
        run(linearBackwardInput, given, { scalars: { alpha, beta } });
      }
      if (weight.needsGrad)
        withValues(x, [dy], (values) => {
          const { grad, beta } = gradientSlot(weight);
          const given = { dy, x: values.view(...rows.shape), dweight: matrix(grad) };
          run(linearBackwardWeight, given, { scalars: { alpha, beta } });
        });
    });
    return undefined;
  });
  return outputs;
}
