/**
 * preference: the loss of direct preference optimization from the likelihood of every token, and what each token's
 * negative log-likelihood is to be multiplied by so that its gradient is the loss's.
 *
 *   l[s,b] = -sum_t nll[s,b,t]                                    s = 0: the preferred answer, s = 1: the other one
 *   margin[b] = beta ((l[0,b] - reference[0,b]) - (l[1,b] - reference[1,b]))
 *   loss[b] = -(1 - eps) log sigmoid(margin) - eps log sigmoid(-margin)
 *   weights[s,b,t] = scale * dloss[b]/dnll[s,b,t] = (s ? -1 : 1) scale beta ((1 - eps) sigmoid(-margin) - eps sigmoid(margin))
 *
 * terms [2,B,N,5] as cross_entropy gives them, reference [2,B]; rows [B,4] hold loss, 0, 1 if the margin is positive, and
 * the margin: the order of a training step's sums, which have a z-loss in the second place. eps is labelSmoothing.
 *
 * Source: Rafailov et al. 2023, arXiv:2305.18290, equation 7; smoothing: Mitchell 2023, "A note on DPO with noisy
 * preferences".
 */
import { defineKernel } from '../../backend/kernel.ts';
import { preferencePlan } from './preference.cuda.ts';

const sigmoid = (x: number) => 1 / (1 + Math.exp(-x));
/** -log sigmoid(x) */
const softplus = (x: number) => Math.max(-x, 0) + Math.log1p(Math.exp(-Math.abs(x)));

export const preferenceKernel = defineKernel({
  name: 'preference',
  inputs: { terms: 'f32[2,B,N,5]', reference: 'f32[2,B]' },
  outputs: { weights: 'f32[2,B,N]', rows: 'f32[B,4]' },
  scalars: { beta: 'f32', labelSmoothing: 'f32', scale: 'f32' },
  cases: [
    { sizes: { B: 1, N: 1 }, scalars: { beta: 0.5, labelSmoothing: 0, scale: 1 } },
    { sizes: { B: 5, N: 37 }, scalars: { beta: 0.1, labelSmoothing: 0, scale: 0.2 } },
    { sizes: { B: 3, N: 600 }, scalars: { beta: 0.4, labelSmoothing: 0.1, scale: 1 } },
  ],
  fill: { reference: (random) => 4 * random() - 2 },
  reference({ terms, reference, weights, rows }, { B, N }, { beta, labelSmoothing, scale }) {
    const score = (s: number, b: number) => {
      let sum = -reference[s * B + b]!;
      for (let t = 0; t < N; t++) sum -= terms[((s * B + b) * N + t) * 5 + 1]!;
      return sum;
    };
    for (let b = 0; b < B; b++) {
      const margin = beta * (score(0, b) - score(1, b));
      const loss = (1 - labelSmoothing) * softplus(margin) + labelSmoothing * softplus(-margin);
      rows.set([loss, 0, margin > 0 ? 1 : 0, margin], b * 4);
      const weight = scale * beta * ((1 - labelSmoothing) * sigmoid(-margin) - labelSmoothing * sigmoid(margin));
      for (const s of [0, 1]) weights.fill(s ? -weight : weight, (s * B + b) * N, (s * B + b + 1) * N);
    }
  },
  cuda: preferencePlan,
});
