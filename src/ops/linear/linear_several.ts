/**
 * linear_several: two or three weights on the same rows in one launch, which cuts and packs the rows once.
 *
 *   y_j[n,o] = sum_i x[n,i] * weight_j[o,i]
 *
 * x [N,I], weight_j [O_j,I], y_j [N,O_j]; the bits of linear_forward. On the CPU; a GPU has linear_group. Inference only: no gradients.
 */
import { defineKernel } from '../../backend/kernel.ts';
import { run } from '../../tensor/autograd.ts';
import type { Tensor } from '../../tensor/tensor.ts';
import { linearRowsKernel } from '../linear_rows/linear_rows.ts';

export const linearSeveralKernel = defineKernel({
  name: 'linear_several',
  inputs: { x: '[N,I]', first: '[O,I]', second: '[P,I]', third: '[Q,I]?' },
  updates: {},
  outputs: { y1: '[N,O]', y2: '[N,P]', y3: '[N,Q]?' },
  cases: [
    { sizes: { N: 1, I: 1, O: 1, P: 1, Q: 0 }, absent: ['third', 'y3'] },
    { sizes: { N: 5, I: 37, O: 29, P: 64, Q: 3 } },
    { sizes: { N: 67, I: 545, O: 101, P: 31, Q: 33 } },
    { sizes: { N: 301, I: 45, O: 33, P: 70, Q: 0 }, absent: ['third', 'y3'] },
  ],
  reference: (values, sizes) => linearRowsKernel.reference(values, sizes, { alpha: 1 }),
});

/** Whether there are as many weights as one launch takes. */
export const isSeveral = ({ length }: readonly Tensor[]): boolean => length === 2 || length === 3;

/** Two or three weights [O_j,I] on one x [N,I]: [N,O_j] each. @throws ShapeError */
export function linearSeveral(x: Tensor, weights: readonly Tensor[]): Tensor[] {
  const [first, second, third] = weights as [Tensor, Tensor, Tensor?];
  const { y1, y2, y3 } = run(linearSeveralKernel, { x, first, second, third }, { without: third ? [] : ['y3'] });
  return [y1, y2, ...(third ? [y3] : [])];
}
