/**
 * ema: an exponential moving average of parameters, and putting it in their place.
 *
 *   average += rest * (values - average),   rest = 1 - decay
 *
 * values [N] of type T; average [N] is float32 whatever T, since steps of bf16 are larger than what is added.
 *
 * Source: Polyak & Juditsky 1992, SIAM J. Control Optim. 30; Izmailov et al. 2018, arXiv:1803.05407.
 */
import { defineKernel } from '../../backend/kernel.ts';
import { emaLoadPlan, emaUpdatePlan } from './ema.cuda.ts';

export const emaUpdate = defineKernel({
  name: 'ema_update',
  inputs: { values: '[N]' },
  updates: { average: 'f32[N]' },
  outputs: {},
  scalars: { rest: 'f32' },
  cases: [
    { sizes: { N: 1 }, scalars: { rest: 1 } },
    { sizes: { N: 1003 }, scalars: { rest: 0.25 } },
    { sizes: { N: 100_000 }, scalars: { rest: 0.001 } },
  ],
  reference({ values, average }, { N }, { rest }) {
    for (let i = 0; i < N; i++) average[i]! += rest * (values[i]! - average[i]!);
  },
  cuda: emaUpdatePlan,
});

/** Saves the values and puts the average, rounded to T, in their place. */
export const emaLoad = defineKernel({
  name: 'ema_load',
  inputs: { average: 'f32[N]' },
  updates: { values: '[N]' },
  outputs: { saved: '[N]' },
  cases: [{ sizes: { N: 1 } }, { sizes: { N: 1003 } }, { sizes: { N: 100_000 } }],
  reference({ average, values, saved }) {
    saved.set(values);
    values.set(average);
  },
  cuda: emaLoadPlan,
});
