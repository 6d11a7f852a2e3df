/**
 * rms_norm: root-mean-square layer normalisation (T5LayerNorm). No mean subtraction, no bias.
 *
 *   y[n,d] = x[n,d] * rstd[n] * weight[d],   rstd[n] = 1 / sqrt(mean_d(x[n,d]^2) + eps)
 *
 * x [N,D] is the residual stream flattened to N = batch * length rows; weight [D].
 * eps is added to the mean square, in units of x^2 (T5 uses 1e-6). The backward kernel also gives y again, as `normed`, to who did
 * not keep it.
 *
 * Source: Zhang & Sennrich 2019, arXiv:1910.07467; used by T5, Raffel et al. 2020, arXiv:1910.10683, section 2.1.
 */
import { defineKernel } from '../../backend/kernel.ts';
import { gradientSlot, isAwaited, record, remade, run } from '../../tensor/autograd.ts';
import { Tensor } from '../../tensor/tensor.ts';
import { rmsNormBackwardPlan, rmsNormForwardPlan } from './rms_norm.cuda.ts';

/** Cases of both directions, add_rms_norm's too. */
export const rmsNormCases = {
  forward: [
    { sizes: { N: 1, D: 8 }, scalars: { eps: 1e-6 } },
    { sizes: { N: 7, D: 77 }, scalars: { eps: 1e-6 } },
    { sizes: { N: 300, D: 768 }, scalars: { eps: 1e-6 } }, // T5-base
    { sizes: { N: 3, D: 16 }, scalars: { eps: 0.5 } }, // eps large enough to be seen
    { sizes: { N: 5, D: 4096 }, scalars: { eps: 1e-6 } }, // T5-xxl
  ],
  backward: [
    { sizes: { N: 1, D: 8 }, scalars: { beta: 0 } },
    { sizes: { N: 7, D: 77 }, scalars: { beta: 1 } },
    { sizes: { N: 300, D: 768 }, scalars: { beta: 0.5 } },
    { sizes: { N: 70, D: 2048 }, scalars: { beta: 0 } },
    { sizes: { N: 300, D: 512 }, scalars: { beta: 1 }, absent: ['normed'] },
  ] as const,
};

export const rmsNormForward = defineKernel({
  name: 'rms_norm_forward',
  inputs: { x: '[N,D]', weight: '[D]' },
  outputs: { y: '[N,D]', rstd: 'f32[N]' },
  scalars: { eps: 'f32' },
  cases: rmsNormCases.forward,
  reference({ x, weight, y, rstd }, { N, D }, { eps }) {
    for (let n = 0; n < N; n++) {
      let sumSq = 0;
      for (let d = 0; d < D; d++) sumSq += x[n * D + d]! ** 2;
      rstd[n] = 1 / Math.sqrt(sumSq / D + eps);
      for (let d = 0; d < D; d++) y[n * D + d] = x[n * D + d]! * rstd[n]! * weight[d]!;
    }
  },
  cuda: rmsNormForwardPlan,
});

export const rmsNormBackward = defineKernel({
  name: 'rms_norm_backward',
  inputs: { dy: '[N,D]', x: '[N,D]', weight: '[D]', rstd: 'f32[N]' },
  updates: { dweight: 'f32[D]' },
  outputs: { dx: '[N,D]', normed: '[N,D]?' },
  scalars: { beta: 'f32' },
  cases: rmsNormCases.backward,
  reference({ dy, x, weight, rstd, dx, dweight, normed }, { N, D }, { beta }) {
    for (let d = 0; d < D; d++) dweight[d] = beta === 0 ? 0 : beta * dweight[d]!;
    for (let n = 0; n < N; n++) {
      let dot = 0; // mean_d(xhat * weight * dy): how much dy changes the row's scale
      for (let d = 0; d < D; d++) dot += x[n * D + d]! * rstd[n]! * weight[d]! * dy[n * D + d]!;
      dot /= D;
      for (let d = 0; d < D; d++) {
        const xhat = x[n * D + d]! * rstd[n]!;
        dx[n * D + d] = rstd[n]! * (weight[d]! * dy[n * D + d]! - xhat * dot);
        dweight[d]! += dy[n * D + d]! * xhat;
        if (normed) normed[n * D + d] = xhat * weight[d]!;
      }
    }
  },
  cuda: rmsNormBackwardPlan,
});

/** Where the backward kernels add a weight's gradient: to what there is of it, or, if none is wanted, where nobody looks. */
export function weightGradient(weight: Tensor): { dweight: Tensor; beta: 0 | 1 } {
  if (!weight.needsGrad) return { dweight: Tensor.empty(weight.backend, 'f32', weight.shape), beta: 0 };
  const { grad, beta } = gradientSlot(weight);
  return { dweight: grad, beta };
}

/** RMS normalisation over the last dimension: x [...,D], weight [D] -> [...,D]. @throws ShapeError */
export function rmsNorm(x: Tensor, weight: Tensor, eps: number): Tensor {
  const D = x.shape.at(-1)!;
  const rows = x.view(x.length / D, D);
  const { y, rstd } = run(rmsNormForward, { x: rows, weight }, { scalars: { eps } });
  const result = y.view(...x.shape);
  record([result], [x, weight], ([dy]) => {
    const { dweight, beta } = weightGradient(weight);
    const given = { dy: dy!.view(...rows.shape), x: rows, weight, rstd, dweight };
    const without = isAwaited(result) ? [] : ['normed'];
    const { dx, normed } = run(rmsNormBackward, given, { scalars: { beta }, without });
    if (normed) remade(result, normed);
    return [dx, undefined];
  });
  return result;
}
