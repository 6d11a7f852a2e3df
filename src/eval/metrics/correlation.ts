/** Pearson's and Spearman's correlation of predicted with true values. */
import { paired } from './pairs.ts';

/** Pearson's r in [-1, 1]; NaN where one side is constant. @throws UsageError unless lengths agree */
export function pearson(predictions: readonly number[], references: readonly number[]): number {
  paired('pearson', predictions, references);
  const n = predictions.length;
  const mean = (values: readonly number[]) => values.reduce((a, b) => a + b, 0) / n;
  const [mx, my] = [mean(predictions), mean(references)];
  let [xy, xx, yy] = [0, 0, 0];
  for (let i = 0; i < n; i++) {
    const [dx, dy] = [predictions[i]! - mx, references[i]! - my];
    xy += dx * dy;
    xx += dx * dx;
    yy += dy * dy;
  }
  return xy / Math.sqrt(xx * yy);
}

/** Spearman's rho: Pearson's r of the ranks, ties sharing their mean rank. @throws UsageError unless lengths agree */
export function spearman(predictions: readonly number[], references: readonly number[]): number {
  paired('spearman', predictions, references);
  return pearson(ranks(predictions), ranks(references));
}

function ranks(values: readonly number[]): number[] {
  const order = values.map((_, i) => i).sort((a, b) => values[a]! - values[b]!);
  const rank = new Array<number>(values.length);
  for (let first = 0; first < order.length; ) {
    let last = first;
    while (last + 1 < order.length && values[order[last + 1]!] === values[order[first]!]) last++;
    for (let i = first; i <= last; i++) rank[order[i]!] = (first + last) / 2;
    first = last + 1;
  }
  return rank;
}
