/**
 * adamw: one update of AdamW, or of AdamWScale, over flat memory.
 *
 *   g      = clip * gradient,  clip = min(1, max_norm / (norm + 1e-6))
 *   first  = beta1 * first + (1 - beta1) * g,   second = beta2 * second + (1 - beta2) * g^2
 *   change = -step * scale * (1 - after * rate * decay) * first / (sqrt(second) + eps) - rate * decay * value
 *   scale  = max(1e-3, RMS(parameter)) where `norms` is given, else 1
 *
 * `hyper` holds what changes from step to step, in device memory so that a recorded launch can be replayed. Its `step`
 * carries the bias corrections. `after` 1 is weight decay of the updated value (AdamWScale), 0 of the old one (AdamW).
 * With `compensation` what rounding to T took from a value is kept and added to its next change (Kahan 1965). With `rng`,
 * [seed, step], rounding to bf16 goes up or down by chance, right in the mean. With `master` the values are those rounded
 * to T. With none, changes below half a bf16 step are lost. Where `norm` is not finite nothing is written.
 *
 * values, gradients [N], chunks as src/tensor/chunks.ts; state [S] float32, or T in adamw_compact; per parameter:
 * lengths, decay, norms [P] (L2 norms of the values before this update).
 *
 * Source: Loshchilov & Hutter 2019, arXiv:1711.05101 (in PyTorch's form); nanoT5 (Nawrot 2023, arXiv:2309.02373) and
 * FAT5 for the scale; Zamirai et al. 2020, arXiv:2010.06192 for the compensation.
 */
import { defineKernel } from '../../backend/kernel.ts';
import { testChunks } from '../../tensor/chunks.ts';
import { adamwPlan } from './adamw.cuda.ts';

/** The entries of `hyper`, in order. */
export const adamwHyper = [
  'beta1',
  'oneMinusBeta1',
  'beta2',
  'oneMinusBeta2',
  'step',
  'eps',
  'rate',
  'after',
  'maxNorm',
] as const;

const testHyper = [0.9, 0.1, 0.75, 0.25, 0.125, 0.01, 0.25, 1, 0.5];

/** Smallest scale of AdamWScale, Adafactor's eps2. */
const MIN_SCALE = 1e-3;

const adamwKernel = <const State extends 'f32[S]' | '[S]'>(name: string, state: State) =>
  defineKernel({
    name,
    inputs: {
      gradients: 'f32[N]',
      chunks: 'i32[C,4]',
      lengths: 'i32[P]',
      decay: 'f32[P]',
      norms: 'f32[P]?',
      norm: 'f32[1]',
      hyper: 'f32[9]',
      rng: 'i32[2]?',
    },
    updates: { values: '[N]', first: state, second: state, compensation: '[S]?', master: 'f32[S]?' },
    outputs: {},
    cases: [
      { sizes: { N: 64, S: 64, C: 1, P: 1 }, absent: ['norms', 'compensation', 'rng', 'master'] },
      { sizes: { N: 6400, S: 4480, C: 7, P: 3 }, absent: ['compensation', 'master'] },
      { sizes: { N: 6400, S: 4480, C: 7, P: 3 }, absent: ['norms', 'rng', 'master'] },
      { sizes: { N: 6400, S: 4480, C: 7, P: 3 }, absent: ['compensation', 'rng'] },
      { sizes: { N: 128_000, S: 128_000, C: 4, P: 4 }, absent: ['rng', 'master'] },
    ],
    fill: {
      chunks: (_, sizes, i) => testChunks(sizes as { N: number; S: number; C: number; P: number })[i]!,
      lengths: (_, __, i) => 100 + i,
      norms: (random, _, i) => (i % 2) * 10 * random(), // every other parameter has the smallest scale
      norm: (_, { P }) => (P === 3 ? 2 : 0.25), // above and below maxNorm
      hyper: (_, __, i) => testHyper[i]!,
      second: (random) => 0.1 + random(),
      compensation: (random) => 0.01 * random(),
    },
    reference(arrays, { C }) {
      const { gradients, chunks, lengths, decay, norms, norm, hyper, values, compensation, master } = arrays;
      const { first, second } = arrays as unknown as Record<'first' | 'second', Float64Array>;
      const [beta1, oneMinusBeta1, beta2, oneMinusBeta2, step, eps, rate, after, maxNorm] =
        hyper as unknown as number[];
      if (!Number.isFinite(norm[0]!)) return;
      const clip = Math.min(1, maxNorm! / (norm[0]! + 1e-6));
      for (let c = 0; c < C; c++) {
        const [start, count, p, state] = Array.from(chunks.subarray(4 * c, 4 * c + 4)) as [
          number,
          number,
          number,
          number,
        ];
        const scale = norms ? Math.max(MIN_SCALE, norms[p]! / Math.sqrt(lengths[p]!)) : 1;
        const lost = rate! * decay[p]!;
        for (let k = 0; k < count; k++) {
          const i = 64 * start + k;
          const s = 64 * state + k;
          const g = clip * gradients[i]!;
          first[s] = beta1! * first[s]! + oneMinusBeta1! * g;
          second[s] = beta2! * second[s]! + oneMinusBeta2! * g * g;
          const direction = first[s]! / (Math.sqrt(second[s]!) + eps!);
          const old = master?.[s] ?? values[i]!;
          const change = -step! * scale * (1 - after! * lost) * direction - lost * old + (compensation?.[s] ?? 0);
          values[i] = old + change;
          if (compensation) compensation[s] = change - (values[i]! - old);
          if (master) master[s] = values[i]!;
        }
      }
    },
    cuda: adamwPlan(name),
  });

/** adamw with its state in float32. */
export const adamw = adamwKernel('adamw', 'f32[S]');
/** adamw with its state in the type of the values: FAT5's, half the memory. */
export const adamwCompact = adamwKernel('adamw_compact', '[S]');
