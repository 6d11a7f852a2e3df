/** bias: y[n,d] = x[n,d] + bias[d] for x [N,D], bias [D]: the heads' linear layers. T5 itself has none. */
import { defineKernel } from '../../backend/kernel.ts';
import { gradientSlot, record, run } from '../../tensor/autograd.ts';
import type { Tensor } from '../../tensor/tensor.ts';
import { columnSums } from '../column_sums/column_sums.ts';
import { addBiasPlan } from './bias.cuda.ts';

export const addBiasKernel = defineKernel({
  name: 'add_bias',
  inputs: { x: '[N,D]', bias: '[D]' },
  outputs: { y: '[N,D]' },
  cases: [{ sizes: { N: 1, D: 1 } }, { sizes: { N: 70, D: 77 } }, { sizes: { N: 33, D: 512 } }],
  reference({ x, bias, y }, { N, D }) {
    for (let i = 0; i < N * D; i++) y[i] = x[i]! + bias[i % D]!;
  },
  cuda: addBiasPlan,
});

/** x [...,D] + bias [D], a parameter, on every row. @throws ShapeError */
export function addBias(x: Tensor, bias: Tensor): Tensor {
  const D = x.shape.at(-1)!;
  const rows = [x.length / D, D];
  const y = run(addBiasKernel, { x: x.view(...rows), bias }).y.view(...x.shape);
  record([y], [x, bias], ([dy]) => {
    if (bias.needsGrad) {
      const { grad, beta } = gradientSlot(bias);
      run(columnSums, { x: dy!.view(...rows), sums: grad }, { scalars: { beta } });
    }
    return [dy, undefined];
  });
  return y;
}
