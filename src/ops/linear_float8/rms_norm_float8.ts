/**
 * rms_norm_float8: a norm of the float32 residual stream in float8 rows, for the projections that read it.
 *
 *   z[n,d] = x[n,d] * r[n] * weight[d],   r[n] = (mean_d x[n,d]^2 + eps)^(-1/2),   values and scales of z as in quantise_float8.ts
 *
 * x float32 [N,D], weight [D], values [N,D], scales [N]: one pass over memory, rounded once. Inference only.
 */
import { defineKernel } from '../../backend/kernel.ts';
import { run } from '../../tensor/autograd.ts';
import type { Tensor } from '../../tensor/tensor.ts';
import { FLOAT8_ARCH, FLOAT8_BESIDE, FLOAT8_MULTIPLE, rmsNormFloat8Plan } from './linear_float8.cuda.ts';
import { inFloat8 } from './quantise_float8.ts';

const eps = 1e-6;

export const rmsNormFloat8Kernel = defineKernel({
  name: 'rms_norm_float8',
  inputs: { x: 'f32[N,D]', weight: '[D]' },
  outputs: { values: 'f8[N,D]', scales: 'f32[N]' },
  scalars: { eps: 'f32' },
  requires: { [`D a multiple of ${FLOAT8_MULTIPLE}`]: ({ D }) => D % FLOAT8_MULTIPLE === 0 },
  cases: [
    { sizes: { N: 1, D: 16 }, scalars: { eps: 0.5 } },
    { sizes: { N: 37, D: 96 }, scalars: { eps } },
    { sizes: { N: 9, D: 768 }, scalars: { eps } },
    { sizes: { N: 2, D: 4096 }, scalars: { eps } },
    { sizes: { N: 2, D: 12288 }, scalars: { eps } },
  ],
  fill: { x: (random) => 8 * random() - 4 },
  reference({ x, weight, values, scales }, { N, D }, { eps }) {
    for (let n = 0; n < N; n++) {
      const row = x.slice(n * D, (n + 1) * D);
      const r = 1 / Math.sqrt(row.reduce((sum, v) => sum + v * v, 0) / D + eps);
      const { values: q, scale } = inFloat8(row.map((v, d) => v * r * weight[d]!));
      values.set(q, n * D);
      scales[n] = scale;
    }
  },
  cuda: rmsNormFloat8Plan,
  arch: FLOAT8_ARCH,
  types: FLOAT8_BESIDE,
  only: 'cuda',
});

/** x float32 [...,D] normalised, times weight [D]: float8 [...,D] with a scale per row. @throws ShapeError */
export function rmsNormFloat8(x: Tensor, weight: Tensor, eps: number): Tensor {
  const D = x.shape.at(-1)!;
  const { values, scales } = run(rmsNormFloat8Kernel, { x: x.view(x.length / D, D), weight }, { scalars: { eps } });
  const result = values.view(...x.shape);
  result.scales = scales;
  return result;
}
