/** What each class counts in the loss. */
import { UsageError } from '../util/errors.ts';

/** A number for each class, or for each as much as makes all classes of the training rows count alike. */
export type ClassWeights = readonly number[] | 'balanced' | undefined;

/**
 * The weight of each class; undefined where all count 1. Balanced: labels / (classes * labels of the class), so that the
 * mean over the labels is 1; a class that no label has counts 1.
 * @param found index of the class of every training label @throws UsageError for another number of weights than classes
 */
export function weightsOf(
  setting: ClassWeights,
  classes: readonly string[],
  found: readonly number[],
): number[] | undefined {
  if (setting === undefined) return undefined;
  if (setting !== 'balanced') {
    if (setting.length !== classes.length)
      throw new UsageError(
        `task.class_weights: ${setting.length} numbers, expected ${classes.length}, one for each of ${classes.join(', ')}`,
      );
    return [...setting];
  }
  const counts = new Array<number>(classes.length).fill(0);
  for (const index of found) counts[index]!++;
  return counts.map((count) => (count === 0 ? 1 : found.length / (classes.length * count)));
}

/**
 * The same where several classes may hold: what it counts that a class holds. Balanced: as often as it does not hold
 * over how often it does, 1 for a class that never or always holds.
 * @param rows 0 or 1 for every class @throws UsageError
 */
export function positiveWeightsOf(
  setting: ClassWeights,
  classes: readonly string[],
  rows: readonly (readonly number[])[],
): number[] | undefined {
  if (setting !== 'balanced') return weightsOf(setting, classes, []);
  return classes.map((_, i) => {
    const holds = rows.reduce((sum, row) => sum + row[i]!, 0);
    return holds === 0 || holds === rows.length ? 1 : (rows.length - holds) / holds;
  });
}

/** What some labels count together. */
export const sumOf = (weights: readonly number[] | undefined, labels: readonly number[]): number =>
  weights ? labels.reduce((sum, label) => sum + weights[label]!, 0) : labels.length;
