/**
 * fire_bias: FIRE, a bias that a small network computes from the relative position, normalised by the query's.
 *
 *   t = max(i, |multiplier| L)                      i query position, j key position, d = i - j
 *   z = sign(d) ln(1 + |c d|) / (ln(1 + |c| t) + 1e-6)
 *   bias[e,h,m,n] = sum_f output[h,f] max(0, hidden[f] z + hiddenBias[f]) + outputBias[h]
 *
 * M queries, N keys, H heads, F hidden width; E sets of positions, one per row of a batch or one for all. c scales the
 * logarithm, multiplier * L is the threshold in positions up to which distances are not normalised by the query's.
 *
 * Source: Li et al. 2024, arXiv:2310.04418, section 4; the epsilon and |c|, |multiplier| as in flashT5.
 */
import { defineKernel } from '../../backend/kernel.ts';
import { record, run } from '../../tensor/autograd.ts';
import type { Tensor } from '../../tensor/tensor.ts';
import { fireBiasBackwardPlan, fireBiasForwardPlan } from './fire_bias.cuda.ts';

const EPSILON = 1e-6;

const inputs = {
  queryPositions: 'i32[E,M]',
  keyPositions: 'i32[E,N]',
  hidden: '[F]',
  hiddenBias: '[F]',
  output: '[H,F]',
  outputBias: '[H]',
  c: '[1]',
  multiplier: '[1]',
} as const;
const scalars = { L: 'f32' } as const;
const cases = [
  { sizes: { E: 1, M: 1, N: 1, F: 1, H: 1 }, scalars: { L: 1 } },
  { sizes: { E: 1, M: 5, N: 5, F: 4, H: 3 }, scalars: { L: 8 } },
  { sizes: { E: 2, M: 3, N: 37, F: 32, H: 2 }, scalars: { L: 128 } },
  { sizes: { E: 1, M: 70, N: 70, F: 32, H: 8 }, scalars: { L: 16 } },
];
const positive = (random: () => number) => 0.5 + random();
const fill = {
  queryPositions: (random: () => number) => Math.floor(random() * 60),
  keyPositions: (random: () => number) => Math.floor(random() * 60),
  c: positive,
  multiplier: positive,
};

/** The normalised distance, its two factors and the threshold for query i and key j. */
function distance(i: number, j: number, c: number, reach: number) {
  const d = i - j;
  const numerator = Math.sign(d) * Math.log1p(Math.abs(c * d));
  const t = Math.max(i, reach);
  const denominator = Math.log1p(Math.abs(c) * t) + EPSILON;
  return { d, t, z: numerator / denominator, denominator };
}

export const fireBiasForward = defineKernel({
  name: 'fire_bias_forward',
  inputs,
  outputs: { bias: 'f32[E,H,M,N]' },
  scalars,
  cases,
  fill,
  reference(a, { E, M, N, F, H }, { L }) {
    const reach = Math.abs(a.multiplier[0]!) * L;
    for (let e = 0; e < E; e++)
      for (let m = 0; m < M; m++)
        for (let n = 0; n < N; n++) {
          const { z } = distance(a.queryPositions[e * M + m]!, a.keyPositions[e * N + n]!, a.c[0]!, reach);
          for (let h = 0; h < H; h++) {
            let sum = a.outputBias[h]!;
            for (let f = 0; f < F; f++) sum += a.output[h * F + f]! * Math.max(0, a.hidden[f]! * z + a.hiddenBias[f]!);
            a.bias[((e * H + h) * M + m) * N + n] = sum;
          }
        }
  },
  cuda: fireBiasForwardPlan,
});

export const fireBiasBackward = defineKernel({
  name: 'fire_bias_backward',
  inputs: { dbias: 'f32[E,H,M,N]', ...inputs },
  outputs: {
    dhidden: 'f32[F]',
    dhiddenBias: 'f32[F]',
    doutput: 'f32[H,F]',
    doutputBias: 'f32[H]',
    dc: 'f32[1]',
    dmultiplier: 'f32[1]',
  },
  scalars,
  cases,
  fill,
  toleranceFactor: 40, // sums over all E M N positions
  reference(a, { E, M, N, F, H }, { L }) {
    for (const gradient of [a.dhidden, a.dhiddenBias, a.doutput, a.doutputBias, a.dc, a.dmultiplier]) gradient.fill(0);
    const [c, multiplier] = [a.c[0]!, a.multiplier[0]!];
    const reach = Math.abs(multiplier) * L;
    for (let e = 0; e < E; e++)
      for (let m = 0; m < M; m++)
        for (let n = 0; n < N; n++) {
          const i = a.queryPositions[e * M + m]!;
          const { d, t, z, denominator } = distance(i, a.keyPositions[e * N + n]!, c, reach);
          const dbias = (h: number) => a.dbias[((e * H + h) * M + m) * N + n]!;
          let dz = 0;
          for (let h = 0; h < H; h++) a.doutputBias[h]! += dbias(h);
          for (let f = 0; f < F; f++) {
            const active = a.hidden[f]! * z + a.hiddenBias[f]!;
            if (active <= 0) continue;
            let dactive = 0;
            for (let h = 0; h < H; h++) {
              a.doutput[h * F + f]! += dbias(h) * active;
              dactive += dbias(h) * a.output[h * F + f]!;
            }
            a.dhidden[f]! += dactive * z;
            a.dhiddenBias[f]! += dactive;
            dz += dactive * a.hidden[f]!;
          }
          const sign = Math.sign(c);
          const ddenominator = (-dz * z) / denominator;
          a.dc[0]! += (dz / denominator) * ((d * sign) / (1 + Math.abs(c * d)));
          a.dc[0]! += ddenominator * ((t * sign) / (1 + Math.abs(c) * t));
          if (reach > i)
            a.dmultiplier[0]! += ddenominator * ((Math.abs(c) * L * Math.sign(multiplier)) / (1 + Math.abs(c) * t));
        }
  },
  cuda: fireBiasBackwardPlan,
});

/** FIRE's parameters; `hidden` may be [F] or [F,1]. */
export interface FireParameters {
  hidden: Tensor;
  hiddenBias: Tensor; // [F]
  output: Tensor; // [H,F]
  outputBias: Tensor; // [H]
  c: Tensor; // [1]
  multiplier: Tensor; // [1]
}

/**
 * Bias f32 [E,H,M,N] of query positions i32 [E,M] and key positions i32 [E,N], with gradients for the parameters; give
 * it to `attention` as `dense`. L is the threshold in positions. @throws ShapeError
 */
export function fireBias(p: FireParameters, queryPositions: Tensor, keyPositions: Tensor, L: number): Tensor {
  const { hidden, hiddenBias, output, outputBias, c, multiplier } = p;
  const flat = hidden.view(hidden.length);
  const given = { queryPositions, keyPositions, hidden: flat, hiddenBias, output, outputBias, c, multiplier };
  const { bias } = run(fireBiasForward, given, { scalars: { L } });
  record([bias], [hidden, hiddenBias, output, outputBias, c, multiplier], ([dbias]) => {
    const g = run(fireBiasBackward, { dbias: dbias!, ...given }, { scalars: { L } });
    return [g.dhidden.view(...hidden.shape), g.dhiddenBias, g.doutput, g.doutputBias, g.dc, g.dmultiplier];
  });
  return bias;
}
