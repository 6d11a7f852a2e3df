/**
 * linear_group: several weights of one shape that lie one behind the other, on the same rows.
 *
 *   y[g,n,o] = sum_i x[n,i] * weight[g,o,i]
 *
 * x [N,I], weight [G,O,I], y [G,N,O]. One launch that fills a GPU where each product alone would leave some of it idle. Inference only:
 * no gradients.
 */
import { defineKernel } from '../../backend/kernel.ts';
import { run } from '../../tensor/autograd.ts';
import type { Tensor } from '../../tensor/tensor.ts';
import { linearGroupPlan } from './linear.cuda.ts';

export const linearGroupKernel = defineKernel({
  name: 'linear_group',
  inputs: { x: '[N,I]', weight: '[G,O,I]' },
  outputs: { y: '[G,N,O]' },
  cases: [
    { sizes: { N: 1, I: 1, G: 1, O: 1 } },
    { sizes: { N: 5, I: 37, G: 3, O: 29 } },
    { sizes: { N: 67, I: 45, G: 2, O: 101 } },
    { sizes: { N: 129, I: 96, G: 3, O: 64 } },
  ],
  reference({ x, weight, y }, { N, I, G, O }) {
    for (let g = 0; g < G; g++)
      for (let n = 0; n < N; n++)
        for (let o = 0; o < O; o++) {
          let sum = 0;
          for (let i = 0; i < I; i++) sum += x[n * I + i]! * weight[(g * O + o) * I + i]!;
          y[(g * N + n) * O + o] = sum;
        }
  },
  cuda: linearGroupPlan,
});

/** x [...,I] times the transpose of each matrix of weights [G,O,I]: G tensors [...,O]. @throws ShapeError */
export function linearGroup(x: Tensor, weights: Tensor): Tensor[] {
  const leading = x.shape.slice(0, -1);
  const [G, O, I] = weights.shape as [number, number, number];
  const { y } = run(linearGroupKernel, { x: x.view(x.length / I, I), weight: weights });
  return Array.from({ length: G }, (_, g) => y.part((g * y.length) / G, y.length / G).view(...leading, O));
}
