/**
 * add_rms_norm: a residual connection and the next layer's rms_norm in one pass.
 *
 *   sum[n,d] = x[n,d] + y[n,d],   normed = rms_norm(sum, weight)
 *   dx = dy = dsum + rms_norm's dx for dnormed
 *
 * x, y, sum, normed [N,D]; weight [D]; rstd [N]. What is normalised is the sum as rounded to the type, so the numbers are those of the
 * two kernels one after the other. Without `dsum` the sum has no other use.
 */
import { defineKernel } from '../../backend/kernel.ts';
import { isAwaited, record, remade, run } from '../../tensor/autograd.ts';
import type { Tensor } from '../../tensor/tensor.ts';
import { addRmsNormBackwardPlan, addRmsNormForwardPlan } from './rms_norm.cuda.ts';
import { rmsNormBackward, rmsNormCases, rmsNormForward, weightGradient } from './rms_norm.ts';

export const addRmsNormForward = defineKernel({
  name: 'add_rms_norm_forward',
  inputs: { x: '[N,D]', y: '[N,D]', weight: '[D]' },
  outputs: { normed: '[N,D]', sum: '[N,D]', rstd: 'f32[N]' },
  scalars: { eps: 'f32' },
  cases: rmsNormCases.forward,
  reference({ x, y, weight, normed, sum, rstd }, sizes, scalars) {
    sum.forEach((_, i) => {
      sum[i] = x[i]! + y[i]!;
    });
    rmsNormForward.reference({ x: sum, weight, y: normed, rstd }, sizes, scalars);
  },
  cuda: addRmsNormForwardPlan,
});

export const addRmsNormBackward = defineKernel({
  name: 'add_rms_norm_backward',
  inputs: { dnormed: '[N,D]', dsum: '[N,D]?', sum: '[N,D]', weight: '[D]', rstd: 'f32[N]' },
  updates: { dweight: 'f32[D]' },
  outputs: { dx: '[N,D]', normed: '[N,D]?' },
  scalars: { beta: 'f32' },
  cases: [...rmsNormCases.backward, { sizes: { N: 7, D: 77 }, scalars: { beta: 0 }, absent: ['dsum'] }],
  reference({ dnormed, dsum, sum, weight, rstd, dx, dweight, normed }, sizes, scalars) {
    rmsNormBackward.reference({ dy: dnormed, x: sum, weight, rstd, dx, dweight, normed }, sizes, scalars);
    dsum?.forEach((d, i) => {
      dx[i]! += d;
    });
  },
  cuda: addRmsNormBackwardPlan,
});

/** x + y and its RMS normalisation: x, y [...,D], weight [D] -> [...,D] each. @throws ShapeError */
export function addRmsNorm(x: Tensor, y: Tensor, weight: Tensor, eps: number): { sum: Tensor; normed: Tensor } {
  const D = x.shape.at(-1)!;
  const rows = (t: Tensor) => t.view(t.length / D, D);
  const forward = run(addRmsNormForward, { x: rows(x), y: rows(y), weight }, { scalars: { eps } });
  const { sum, rstd } = forward;
  const result = { sum: sum.view(...x.shape), normed: forward.normed.view(...x.shape) };
  record([result.normed, result.sum], [x, y, weight], ([dnormed, dsum]) => {
    if (!dnormed) return [dsum, dsum, undefined];
    const { dweight, beta } = weightGradient(weight);
    const given = { dnormed: rows(dnormed), dsum: dsum && rows(dsum), sum, weight, rstd, dweight };
    const without = isAwaited(result.normed) ? [] : ['normed'];
    const { dx, normed } = run(addRmsNormBackward, given, { scalars: { beta }, without });
    if (normed) remade(result.normed, normed);
    return [dx, dx, undefined];
  });
  return result;
}
