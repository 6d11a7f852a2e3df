/**
 * dropout: y[e] = x[e] / (1 - rate) for the elements that are kept, 0 for a share `rate` of them.
 *
 * x [N] is any tensor flattened; rng int32 [2] is [seed, step]; `site` numbers the places of a model that drop
 * elements. Which elements are kept is a pure function of (seed, step, site, e), see util/philox.ts: the backward pass is
 * this same kernel on dy.
 *
 * Source: Srivastava et al. 2014, JMLR 15, in the inverted form.
 */
import { defineKernel } from '../../backend/kernel.ts';
import { isAwaited, record, remade, run, withValues } from '../../tensor/autograd.ts';
import type { Tensor } from '../../tensor/tensor.ts';
import { dropoutFactor } from '../../util/philox.ts';
import { dropoutPlan } from './dropout.cuda.ts';

export const dropoutKernel = defineKernel({
  name: 'dropout',
  inputs: { x: '[N]', rng: 'i32[2]' },
  outputs: { y: '[N]' },
  scalars: { rate: 'f32', site: 'i32' },
  cases: [
    { sizes: { N: 1 }, scalars: { rate: 0.5, site: 0 } },
    { sizes: { N: 1003 }, scalars: { rate: 0, site: 1 } },
    { sizes: { N: 20001 }, scalars: { rate: 0.1, site: 1 } },
    { sizes: { N: 20001 }, scalars: { rate: 0.1, site: 70000 } },
  ],
  fill: { rng: (random) => Math.floor(random() * 2 ** 32) | 0 },
  reference({ x, rng, y }, { N }, { rate, site }) {
    for (let e = 0; e < N; e++) y[e] = x[e]! * dropoutFactor(rng, site, e, rate);
  },
  cuda: dropoutPlan,
});

/** x with a share `rate` in [0,1) of its elements dropped and the others scaled up; rng int32 [2] is [seed, step]. */
export function dropout(x: Tensor, rng: Tensor, rate: number, site: number): Tensor {
  if (rate === 0) return x;
  const scalars = { rate, site };
  const drop = (t: Tensor) => run(dropoutKernel, { x: t.view(t.length), rng }, { scalars }).y.view(...t.shape);
  const y = drop(x);
  record([y], [x], ([dy]) => {
    if (isAwaited(y)) withValues(x, [], (values) => remade(y, drop(values)));
    return [drop(dy!)];
  });
  return y;
}
