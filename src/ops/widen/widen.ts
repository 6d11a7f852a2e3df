/** widen: numbers of type T as float32, y[n] = x[n]. x [N] is any tensor, flattened. Inference only: no gradients. */
import { defineKernel } from '../../backend/kernel.ts';
import { run } from '../../tensor/autograd.ts';
import type { Tensor } from '../../tensor/tensor.ts';
import { widenPlan } from './widen.cuda.ts';

export const widenKernel = defineKernel({
  name: 'widen',
  inputs: { x: '[N]' },
  outputs: { y: 'f32[N]' },
  cases: [{ sizes: { N: 1 } }, { sizes: { N: 1003 } }, { sizes: { N: 70001 } }],
  reference({ x, y }) {
    y.set(x);
  },
  cuda: widenPlan,
});

/** x in float32, the same shape; x itself if it is. */
export const widen = (x: Tensor): Tensor =>
  x.dtype === 'f32' ? x : run(widenKernel, { x: x.view(x.length) }).y.view(...x.shape);
