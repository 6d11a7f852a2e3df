/**
 * accumulate: y = beta * y + x, how gradients add up. With beta 0 the old contents are not read (they may be NaN).
 */
import { defineKernel } from '../backend/kernel.ts';
import { accumulatePlan } from './accumulate.cuda.ts';

export const accumulate = defineKernel({
  name: 'accumulate',
  inputs: { x: '[N]' },
  updates: { y: '[N]' },
  outputs: {},
  scalars: { beta: 'f32' },
  cases: [
    { sizes: { N: 1 }, scalars: { beta: 1 } },
    { sizes: { N: 1003 }, scalars: { beta: 0 } },
    { sizes: { N: 70000 }, scalars: { beta: 0.5 } },
  ],
  reference({ x, y }, { N }, { beta }) {
    for (let i = 0; i < N; i++) y[i] = (beta === 0 ? 0 : beta * y[i]!) + x[i]!;
  },
  cuda: accumulatePlan,
});
