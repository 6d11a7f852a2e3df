/**
 * transpose: y[m,n] = x[n,m], x [N,M]. A question-answering head's [B*S,2] becomes start and end logits, [2,B*S], this way.
 */
import { defineKernel } from '../../backend/kernel.ts';
import { record, run } from '../../tensor/autograd.ts';
import type { Tensor } from '../../tensor/tensor.ts';
import { transposePlan } from './transpose.cuda.ts';

export const transposeKernel = defineKernel({
  name: 'transpose',
  inputs: { x: '[N,M]' },
  outputs: { y: '[M,N]' },
  cases: [{ sizes: { N: 1, M: 1 } }, { sizes: { N: 37, M: 2 } }, { sizes: { N: 35, M: 130 } }],
  reference({ x, y }, { N, M }) {
    for (let n = 0; n < N; n++) for (let m = 0; m < M; m++) y[m * N + n] = x[n * M + m]!;
  },
  cuda: transposePlan,
});

/** x [N,M] -> [M,N]. @throws ShapeError */
export function transpose(x: Tensor): Tensor {
  const { y } = run(transposeKernel, { x });
  record([y], [x], ([dy]) => [run(transposeKernel, { x: dy! }).y]);
  return y;
}
