/**
 * select_rows: y[m,d] = x[indices[m],d], rows of an activation: the last position of each sequence for a classifier.
 * x [N,D], indices int32 [M] in 0..N-1, y [M,D]. The forward pass is embedding's kernel; the backward pass adds each
 * row's gradient to a dx of zeros, rows that are taken more than once in float32.
 */
import { defineKernel } from '../../backend/kernel.ts';
import { record, run } from '../../tensor/autograd.ts';
import type { Tensor } from '../../tensor/tensor.ts';
import { embeddingForward } from '../embedding/embedding.ts';
import { selectRowsBackwardPlan } from './select_rows.cuda.ts';

export const selectRowsBackward = defineKernel({
  name: 'select_rows_backward',
  inputs: { dy: '[M,D]', indices: 'i32[M]' },
  outputs: { dx: '[N,D]' },
  cases: [
    { sizes: { N: 1, D: 1, M: 1 } },
    { sizes: { N: 11, D: 77, M: 5 } },
    { sizes: { N: 7, D: 200, M: 9 } },
    { sizes: { N: 3, D: 20, M: 2000 } },
  ],
  fill: { indices: (random, { N }) => Math.floor(random() * N) },
  reference({ dy, indices, dx }, { M, D }) {
    dx.fill(0);
    for (let m = 0; m < M; m++) for (let d = 0; d < D; d++) dx[indices[m]! * D + d]! += dy[m * D + d]!;
  },
  cuda: selectRowsBackwardPlan,
});

/** Rows of x [...,D], flattened to [N,D], by int32 indices [M] in 0..N-1: [M,D]. @throws ShapeError */
export function selectRows(x: Tensor, indices: Tensor): Tensor {
  const D = x.shape.at(-1)!;
  const N = x.length / D;
  const { y } = run(embeddingForward, { table: x.view(N, D), ids: indices });
  record([y], [x], ([dy]) => [run(selectRowsBackward, { dy: dy!, indices }, { sizes: { N } }).dx]);
  return y;
}
