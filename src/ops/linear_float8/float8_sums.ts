/**
 * float8_sums: products of float8 rows with several weights of one shape in one launch, without their scales.
 *
 *   y[g,n,o] = sum_i x[n,i] * weight[g,o,i]
 *
 * x [N,I], weight [G,O,I], y [G,N,O] of type T, which holds such sums (up to 448^2 I). Who reads them scales them: cublasLt can do that
 * to single products only, and of few rows a single one leaves much of a GPU idle. Inference only.
 */
import type { FloatType } from '../../backend/dtype.ts';
import { defineKernel } from '../../backend/kernel.ts';
import { run } from '../../tensor/autograd.ts';
import type { Tensor } from '../../tensor/tensor.ts';
import { linearGroupKernel } from '../linear/linear_group.ts';
import { FLOAT8_ARCH, FLOAT8_BESIDE, FLOAT8_MULTIPLE, float8SumsPlan } from './linear_float8.cuda.ts';

export const float8SumsKernel = defineKernel({
  name: 'float8_sums',
  inputs: { x: 'f8[N,I]', weight: 'f8[G,O,I]' },
  updates: {},
  outputs: { y: '[G,N,O]' },
  requires: {
    [`I and O multiples of ${FLOAT8_MULTIPLE}`]: ({ I, O }) => I % FLOAT8_MULTIPLE === 0 && O % FLOAT8_MULTIPLE === 0,
  },
  cases: [
    { sizes: { N: 1, I: 16, G: 1, O: 16 } },
    { sizes: { N: 5, I: 48, G: 3, O: 32 } },
    { sizes: { N: 67, I: 112, G: 2, O: 80 } },
    { sizes: { N: 129, I: 512, G: 3, O: 64 } },
  ],
  fill: { x: (random) => (random() * 2 - 1) ** 3, weight: (random) => (random() * 2 - 1) ** 3 },
  tolerance: 1e-2, // 14 bits of each sum are kept on the way
  reference: (values, sizes) => linearGroupKernel.reference(values, sizes, {}),
  cuda: float8SumsPlan,
  arch: FLOAT8_ARCH,
  types: FLOAT8_BESIDE,
  only: 'cuda',
});

/** Sums of float8 rows [...,I] with weights [G,O,I], without their scales: [G,N,O] of a type. @throws ShapeError */
export function float8Sums(x: Tensor, weights: Tensor, type: FloatType): Tensor {
  const I = weights.shape.at(-1)!;
  return run(float8SumsKernel, { x: x.view(x.length / I, I), weight: weights }, { type }).y;
}
