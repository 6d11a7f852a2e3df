/**
 * muon: an orthogonalised momentum update of one matrix. Between the two kernels stands `orthogonalise`.
 *
 *   momentum  = beta * momentum + (1 - beta) * g,   u = (1 - beta) * g + beta * momentum   (Nesterov)
 *   direction = u / (|u| + 1e-7),   then orthogonalised
 *   change    = -rate * scale * gain * (1 - rate * decay) * direction - rate * decay * value
 *   scale     = max(1e-3, RMS(value)),   gain = update_rms * sqrt(max(rows, columns))
 *
 * An orthogonal [R,C] matrix has RMS 1/sqrt(max(R,C)), so that gain makes the RMS of a change update_rms * rate * scale: 0.2
 * is what Adam's changes have, and learning rates carry over.
 * T5 differs: the scale by RMS(value), so that one rate serves these matrices and AdamWScale's parameters.
 *
 * g is clipped by the global norm as in adamw; where that is not finite nothing is written. norms [1] is the L2 norm of
 * the value before the update; compensation, rng and master as in adamw.
 *
 * Source: Jordan et al. 2024, "Muon: an optimizer for hidden layers in neural networks"; Liu et al. 2025,
 * arXiv:2502.16982, section 2.2, for the gain.
 */
import { defineKernel } from '../../backend/kernel.ts';
import { run } from '../../tensor/autograd.ts';
import { CHUNK } from '../../tensor/chunks.ts';
import { copyOf } from '../../tensor/copy.ts';
import { scope } from '../../tensor/scope.ts';
import { Tensor } from '../../tensor/tensor.ts';
import { linearBackwardInput, linearBackwardWeight, linearForward } from '../linear/linear.ts';
import { muonMomentumPlan, muonUpdatePlan } from './muon.cuda.ts';

/** The entries of `hyper`, in order. */
export const muonHyper = ['beta', 'oneMinusBeta', 'rate', 'maxNorm'] as const;

const testHyper = [0.75, 0.25, 0.25, 0.5];
const fill = {
  norm: (_: unknown, { N }: { N: number }) => (N > 100 ? 2 : 0.25), // above and below maxNorm
  hyper: (_: unknown, __: unknown, i: number) => testHyper[i]!,
};

export const muonMomentum = defineKernel({
  name: 'muon_momentum',
  inputs: { gradient: 'f32[N]', norm: 'f32[1]', hyper: 'f32[4]' },
  updates: { momentum: 'f32[N]' },
  outputs: { direction: 'f32[N]', partial: 'f32[K]' },
  requires: { [`K = ceil(N / ${CHUNK})`]: ({ N, K }) => K === Math.ceil(N / CHUNK) },
  cases: [{ sizes: { N: 1, K: 1 } }, { sizes: { N: 1003, K: 1 } }, { sizes: { N: 100_000, K: 4 } }],
  fill,
  reference({ gradient, norm, hyper, momentum, direction, partial }, { N, K }) {
    if (!Number.isFinite(norm[0]!)) return;
    const [beta, oneMinusBeta, , maxNorm] = hyper as unknown as [number, number, number, number];
    const clip = Math.min(1, maxNorm / (norm[0]! + 1e-6));
    for (let i = 0; i < N; i++) {
      const g = clip * gradient[i]!;
      momentum[i] = beta * momentum[i]! + oneMinusBeta * g;
      direction[i] = oneMinusBeta * g + beta * momentum[i]!;
    }
    for (let k = 0; k < K; k++)
      partial[k] = direction.subarray(k * CHUNK, (k + 1) * CHUNK).reduce((sum, u) => sum + u * u, 0);
    const length = Math.sqrt(partial.reduce((a, b) => a + b, 0)) + 1e-7;
    for (let i = 0; i < N; i++) direction[i]! /= length;
  },
  cuda: muonMomentumPlan,
});

export const muonUpdate = defineKernel({
  name: 'muon_update',
  inputs: {
    direction: 'f32[N]',
    norms: 'f32[1]',
    norm: 'f32[1]',
    hyper: 'f32[4]',
    rng: 'i32[2]?',
  },
  updates: { values: '[N]', compensation: '[N]?', master: 'f32[N]?' },
  outputs: {},
  scalars: { gain: 'f32', decay: 'f32', site: 'i32' },
  cases: [
    { sizes: { N: 1 }, scalars: { gain: 2, decay: 0, site: 1 }, absent: ['compensation', 'rng', 'master'] },
    { sizes: { N: 1003 }, scalars: { gain: 0.5, decay: 0.5, site: 1 }, absent: ['compensation', 'master'] },
    { sizes: { N: 1003 }, scalars: { gain: 0.5, decay: 0.5, site: 1 }, absent: ['compensation', 'rng'] },
    { sizes: { N: 100_000 }, scalars: { gain: 2, decay: 0.5, site: 1 }, absent: ['rng', 'master'] },
  ],
  fill: {
    ...fill,
    norms: (_, { N }) => (N === 1 ? 0 : 0.5 * Math.sqrt(N)), // the smallest scale, and an ordinary one
    compensation: (random) => 0.01 * random(),
  },
  reference({ direction, norms, norm, hyper, values, compensation, master }, { N }, { gain, decay }) {
    if (!Number.isFinite(norm[0]!)) return;
    const rate = hyper[2]!;
    const scale = Math.max(1e-3, norms[0]! / Math.sqrt(N));
    for (let i = 0; i < N; i++) {
      const old = master?.[i] ?? values[i]!;
      const change =
        (compensation?.[i] ?? 0) - rate * scale * gain * (1 - rate * decay) * direction[i]! - rate * decay * old;
      values[i] = old + change;
      if (compensation) compensation[i] = change - (values[i]! - old);
      if (master) master[i] = values[i]!;
    }
  },
  cuda: muonUpdatePlan,
});

/** The quintic that drives singular values in (0, 1] towards 1, within about 0.3 after five rounds. Source: Jordan et al. */
const QUINTIC = { a: 3.4445, b: -4.775, c: 2.0315 };

/**
 * A matrix with the singular vectors of x f32[R,C], whose singular values lie in [0,1], and singular values near 1:
 * `iterations` rounds of X <- aX + (bG + cG^2)X with G = X X^T, or the same from the right where columns are fewer.
 */
export function orthogonalise(x: Tensor, iterations: number): Tensor {
  const [rows, columns] = x.shape as [number, number];
  const { a, b, c } = QUINTIC;
  return scope(() => {
    let X = x;
    for (let i = 0; i < iterations; i++) {
      X = scope(() => {
        const gram = rows <= columns ? outerGram(X) : innerGram(X);
        const polynomial = copyOf(gram);
        run(linearBackwardInput, { dy: gram, weight: gram, dx: polynomial }, { scalars: { alpha: c, beta: b } });
        const next = copyOf(X);
        const [dy, weight] = rows <= columns ? [polynomial, X] : [X, polynomial];
        run(linearBackwardInput, { dy, weight, dx: next }, { scalars: { alpha: 1, beta: a } });
        return next;
      });
    }
    return X;
  });
}

/** X X^T. */
const outerGram = (X: Tensor): Tensor => run(linearForward, { x: X, weight: X }, { scalars: { alpha: 1 } }).y;

/** X^T X. */
function innerGram(X: Tensor): Tensor {
  const columns = X.shape[1]!;
  const dweight = Tensor.empty(X.backend, 'f32', [columns, columns]);
  run(linearBackwardWeight, { dy: X, x: X, dweight }, { scalars: { alpha: 1, beta: 0 } });
  return dweight;
}
