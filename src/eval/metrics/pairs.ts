/** What several metrics share. */
import { UsageError } from '../../util/errors.ts';

/** How often each item occurs. */
export function counts<K>(items: Iterable<K>): Map<K, number> {
  const count = new Map<K, number>();
  for (const item of items) count.set(item, (count.get(item) ?? 0) + 1);
  return count;
}

/** Lower case without ASCII punctuation. */
export const plainText = (text: string): string =>
  text.toLowerCase().replace(/[!"#$%&'()*+,\-./:;<=>?@[\\\]^_`{|}~]/g, '');

/** Words with one space between them. */
export const singleSpaced = (text: string): string => text.split(/\s+/).filter(Boolean).join(' ');

/** @throws UsageError unless there are as many references as predictions, and at least one */
export function paired(metric: string, predictions: readonly unknown[], references: readonly unknown[]): void {
  if (predictions.length !== references.length || predictions.length === 0)
    throw new UsageError(
      `${metric}: ${predictions.length} predictions for ${references.length} references, expected as many and at least one`,
    );
}

/** How many references a prediction has, in sacreBLEU's words. */
export function countOf(references: readonly (readonly string[])[]): string {
  const [first] = references;
  return references.every(({ length }) => length === first!.length) ? String(first!.length) : 'var';
}
