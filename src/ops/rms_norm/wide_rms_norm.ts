/**
 * wide_rms_norm: root mean square normalisation of a float32 residual stream for layers in 16 bits.
 *
 *   y[n,d] = x[n,d] * r[n] * weight[d],   r[n] = (mean_d x[n,d]^2 + eps)^(-1/2)
 *
 * x float32 [N,D]; weight [D] and y [N,D] of type T: rounded once, at the end. Inference only: no gradients.
 */
import { defineKernel } from '../../backend/kernel.ts';
import { run } from '../../tensor/autograd.ts';
import type { Tensor } from '../../tensor/tensor.ts';
import { wideRmsNormPlan } from './rms_norm.cuda.ts';

const eps = 1e-6;

export const wideRmsNormKernel = defineKernel({
  name: 'wide_rms_norm',
  inputs: { x: 'f32[N,D]', weight: '[D]' },
  outputs: { y: '[N,D]' },
  scalars: { eps: 'f32' },
  cases: [
    { sizes: { N: 1, D: 1 }, scalars: { eps: 0.5 } },
    { sizes: { N: 3, D: 515 }, scalars: { eps } },
    { sizes: { N: 37, D: 96 }, scalars: { eps } },
    { sizes: { N: 9, D: 768 }, scalars: { eps } },
    { sizes: { N: 2, D: 4096 }, scalars: { eps } },
    { sizes: { N: 2, D: 12296 }, scalars: { eps } },
  ],
  fill: { x: (random) => 8 * random() - 4 },
  reference({ x, weight, y }, { N, D }, { eps }) {
    for (let n = 0; n < N; n++) {
      let square = 0;
      for (let d = 0; d < D; d++) square += x[n * D + d]! ** 2;
      const r = 1 / Math.sqrt(square / D + eps);
      for (let d = 0; d < D; d++) y[n * D + d] = x[n * D + d]! * r * weight[d]!;
    }
  },
  cuda: wideRmsNormPlan,
});

/** x float32 [...,D] normalised, times weight [D] of another type: [...,D] of that type. @throws ShapeError */
export function wideRmsNorm(x: Tensor, weight: Tensor, eps: number): Tensor {
  const D = x.shape.at(-1)!;
  return run(wideRmsNormKernel, { x: x.view(x.length / D, D), weight }, { scalars: { eps } }).y.view(...x.shape);
}
