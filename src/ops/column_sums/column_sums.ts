/**
 * column_sums: sums[d] = beta * sums[d] + sum_n x[n,d], in float32. With beta 0 the old sums are not read.
 * x [N,D]: the rows' gradients of a bias, or per-row figures to be added up.
 */
import { defineKernel } from '../../backend/kernel.ts';
import { columnSumsPlan } from './column_sums.cuda.ts';

export const columnSums = defineKernel({
  name: 'column_sums',
  inputs: { x: '[N,D]' },
  updates: { sums: 'f32[D]' },
  outputs: {},
  scalars: { beta: 'f32' },
  cases: [
    { sizes: { N: 1, D: 1 }, scalars: { beta: 1 } },
    { sizes: { N: 70, D: 5 }, scalars: { beta: 0 } },
    { sizes: { N: 300, D: 203 }, scalars: { beta: 0.5 } },
    { sizes: { N: 3000, D: 5 }, scalars: { beta: 0 } },
  ],
  reference({ x, sums }, { N, D }, { beta }) {
    for (let d = 0; d < D; d++) {
      let sum = 0;
      for (let n = 0; n < N; n++) sum += x[n * D + d]!;
      sums[d] = sum + (beta === 0 ? 0 : beta * sums[d]!);
    }
  },
  cuda: columnSumsPlan,
});
