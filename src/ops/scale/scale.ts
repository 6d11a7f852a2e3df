/** scale: y = factor * x elementwise; x [N] is any tensor flattened. */
import { defineKernel } from '../../backend/kernel.ts';
import { record, run } from '../../tensor/autograd.ts';
import type { Tensor } from '../../tensor/tensor.ts';
import { scalePlan } from './scale.cuda.ts';

export const scaleKernel = defineKernel({
  name: 'scale',
  inputs: { x: '[N]' },
  outputs: { y: '[N]' },
  scalars: { factor: 'f32' },
  cases: [
    { sizes: { N: 1 }, scalars: { factor: -2 } },
    { sizes: { N: 40003 }, scalars: { factor: 0.5 } },
  ],
  reference({ x, y }, { N }, { factor }) {
    for (let i = 0; i < N; i++) y[i] = factor * x[i]!;
  },
  cuda: scalePlan,
});

/** factor * x, any shape. */
export function scale(x: Tensor, factor: number): Tensor {
  const times = (t: Tensor) => run(scaleKernel, { x: t.view(t.length) }, { scalars: { factor } }).y.view(...t.shape);
  const y = times(x);
  record([y], [x], ([dy]) => [times(dy!)]);
  return y;
}
