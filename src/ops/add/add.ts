/** add: y = a + b elementwise, the residual connection. a, b [N] are any tensors of one shape, flattened. */
import { defineKernel } from '../../backend/kernel.ts';
import { record, run } from '../../tensor/autograd.ts';
import type { Tensor } from '../../tensor/tensor.ts';
import { addPlan } from './add.cuda.ts';

export const addKernel = defineKernel({
  name: 'add',
  inputs: { a: '[N]', b: '[N]' },
  outputs: { y: '[N]' },
  cases: [{ sizes: { N: 1 } }, { sizes: { N: 1003 } }, { sizes: { N: 70001 } }],
  reference({ a, b, y }, { N }) {
    for (let i = 0; i < N; i++) y[i] = a[i]! + b[i]!;
  },
  cuda: addPlan,
});

/** a + b for tensors of the same shape. @throws ShapeError */
export function add(a: Tensor, b: Tensor): Tensor {
  const y = run(addKernel, { a: a.view(a.length), b: b.view(b.length) }).y.view(...a.shape);
  record([y], [a, b], ([dy]) => [dy, dy]);
  return y;
}
