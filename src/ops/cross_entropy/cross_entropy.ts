/**
 * cross_entropy: the loss of rows of logits against labels, with label smoothing and z-loss, and its gradient.
 *
 *   lse = log sum_v e^logit_v
 *   loss = lse - eps * mean_v(logit_v) - (1 - eps) * logit_label + z * lse^2
 *   dloss/dlogit_v = p_v (1 + 2 z lse) - (1 - eps) [v = label] - eps / V,   p_v = e^(logit_v - lse)
 *
 * logits [N,V]; labels int32 [N] in 0..V-1 or IGNORED, where loss and gradient are 0. eps is labelSmoothing, z zLoss.
 * With writeGradient 1 the logits are replaced by scale * weight * dloss * their gradient, with 0 they stay. A row's terms
 * are [scale * weight * loss, lse - logit_label, z lse^2, 1 if the label is the first largest logit, 1]; zeros when ignored.
 * weights [N] are 1 when left out.
 *
 * Source: label smoothing, Szegedy et al. 2016, arXiv:1512.00567; z-loss, Chowdhery et al. 2022, arXiv:2204.02311, section 5.
 */
import { defineKernel } from '../../backend/kernel.ts';
import { record, run } from '../../tensor/autograd.ts';
import { copyTo } from '../../tensor/copy.ts';
import { Tensor } from '../../tensor/tensor.ts';
import { IGNORED } from '../../util/batch.ts';
import { columnSums } from '../column_sums/column_sums.ts';
import { crossEntropyPlan } from './cross_entropy.cuda.ts';

/** Figures per row in `terms`. */
export const TERMS = 5;

export const crossEntropyKernel = defineKernel({
  name: 'cross_entropy',
  inputs: { labels: 'i32[N]', dloss: 'f32[1]?', weights: 'f32[N]?' },
  updates: { logits: '[N,V]' },
  outputs: { terms: 'f32[N,5]?' },
  scalars: { labelSmoothing: 'f32', zLoss: 'f32', scale: 'f32', writeGradient: 'i32' },
  cases: [
    { sizes: { N: 1, V: 1 }, scalars: { labelSmoothing: 0, zLoss: 0, scale: 1, writeGradient: 1 } },
    { sizes: { N: 9, V: 29 }, scalars: { labelSmoothing: 0, zLoss: 0, scale: 1, writeGradient: 0 } },
    { sizes: { N: 9, V: 29 }, scalars: { labelSmoothing: 0.1, zLoss: 0, scale: 1, writeGradient: 1 } },
    {
      sizes: { N: 9, V: 29 },
      scalars: { labelSmoothing: 0, zLoss: 0.01, scale: 1, writeGradient: 1 },
      absent: ['dloss', 'weights'],
    },
    {
      sizes: { N: 7, V: 5003 },
      scalars: { labelSmoothing: 0.1, zLoss: 0.01, scale: 0.5, writeGradient: 1 },
      absent: ['terms', 'weights'],
    },
    { sizes: { N: 3, V: 32128 }, scalars: { labelSmoothing: 0, zLoss: 1e-4, scale: 1, writeGradient: 1 } }, // T5
    { sizes: { N: 2, V: 70_000 }, scalars: { labelSmoothing: 0.1, zLoss: 0, scale: 1, writeGradient: 1 } },
  ],
  fill: {
    labels: (random, { V }, n) => (n % 4 === 2 ? IGNORED : Math.floor(random() * V)),
    // Wide, and rounded so that equal largest logits occur.
    logits: (random) => Math.round(random() * 160 - 80) / 8,
  },
  reference({ labels, dloss, weights, logits, terms }, { N, V }, { labelSmoothing, zLoss, scale, writeGradient }) {
    for (let n = 0; n < N; n++) {
      const row = logits.subarray(n * V, (n + 1) * V);
      const label = labels[n]!;
      const ignored = label === IGNORED;
      const largest = row.reduce((a, b) => Math.max(a, b), -Infinity);
      const lse = largest + Math.log(row.reduce((sum, x) => sum + Math.exp(x - largest), 0));
      const mean = row.reduce((sum, x) => sum + x, 0) / V;
      const smoothed = lse - labelSmoothing * mean - (1 - labelSmoothing) * row[label]!;
      const z = zLoss * lse * lse;
      const correct = row.indexOf(largest) === label ? 1 : 0;
      const share = scale * (weights?.[n] ?? 1);
      terms?.set(ignored ? [0, 0, 0, 0, 0] : [share * (smoothed + z), lse - row[label]!, z, correct, 1], n * 5);
      if (!writeGradient) continue;
      const factor = ignored ? 0 : share * (dloss?.[0] ?? 1);
      for (let v = 0; v < V; v++) {
        const target = (v === label ? 1 - labelSmoothing : 0) + labelSmoothing / V;
        row[v] = factor * (Math.exp(row[v]! - lse) * (1 + 2 * zLoss * lse) - target);
      }
    }
  },
  cuda: crossEntropyPlan,
});

/** What the loss is besides the logits' and labels' cross entropy. */
export interface CrossEntropyOptions {
  /** Share of the target spread evenly over all classes, 0 when left out. */
  labelSmoothing?: number | undefined;
  /** Weight of lse^2, 0 when left out. */
  zLoss?: number | undefined;
  /** What the sum over rows is divided by, as a rule the number of labels that are not IGNORED. */
  denominator: number;
  /** f32 [...], as the labels: what each row's loss and gradient is multiplied by; the stats are not. */
  weights?: Tensor | undefined;
}

/** A type, not an interface: scopes take records of tensors. */
export type CrossEntropy = {
  /** f32[1]: sum of the rows' losses / denominator. */
  loss: Tensor;
  /** f32[4], sums over rows: negative log-likelihood in nats without smoothing and z, z-loss, right guesses, labels. */
  stats: Tensor;
};

/** Splits sums [5] of rows' terms into loss and stats. */
export const asCrossEntropy = (sums: Tensor): CrossEntropy => ({
  loss: sums.part(0, 1),
  stats: sums.part(1, TERMS - 1),
});

/** The kernel's scalars but writeGradient. */
export const lossScalars = ({ labelSmoothing = 0, zLoss = 0, denominator }: CrossEntropyOptions) => ({
  labelSmoothing,
  zLoss,
  scale: 1 / denominator,
});

/** Cross entropy of logits [...,V] against int32 labels [...]; the logits stay. @throws ShapeError */
export function crossEntropy(logits: Tensor, labels: Tensor, options: CrossEntropyOptions): CrossEntropy {
  const scalars = lossScalars(options);
  const V = logits.shape.at(-1)!;
  const list = labels.view(labels.length);
  const rows = logits.view(logits.length / V, V);
  const weights = options.weights?.view(list.length);
  const given = { logits: rows, labels: list, weights };
  const { terms } = run(crossEntropyKernel, given, { scalars: { ...scalars, writeGradient: 0 } });
  const sums = Tensor.empty(logits.backend, 'f32', [TERMS]);
  run(columnSums, { x: terms!, sums }, { scalars: { beta: 0 } });
  const result = asCrossEntropy(sums);
  record([result.loss], [logits], ([dloss]) => {
    const gradient = Tensor.empty(logits.backend, logits.dtype, rows.shape);
    copyTo(rows, gradient);
    const without = ['terms'];
    run(
      crossEntropyKernel,
      { logits: gradient, labels: list, dloss, weights },
      { scalars: { ...scalars, writeGradient: 1 }, without },
    );
    return [gradient];
  });
  return result;
}
