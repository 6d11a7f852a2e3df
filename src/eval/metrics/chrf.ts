/**
 * chrF: F-score of character n-grams (and of word n-grams in chrF++), recall weighing beta times as much as precision.
 *
 * Source: Popović 2015, "chrF: character n-gram F-score for automatic MT evaluation" and 2017; sacreBLEU's conventions
 * (no white space, mean precision and recall over the orders that occur on both sides).
 */
import { UsageError } from '../../util/errors.ts';
import { countOf, counts, paired } from './pairs.ts';

/** Orders of n-grams and the weight of recall. */
export interface ChrfOptions {
  /** Longest character n-gram, 6 by default. */
  char_order?: number;
  /** Longest word n-gram, 0 by default; 2 gives chrF++. */
  word_order?: number;
  /** 2 by default. */
  beta?: number;
}

type Grams = Map<string, number>;
/** Per order: n-grams of the prediction, of the reference, and in both. */
type Statistics = [predicted: number, expected: number, hits: number][];

const ascii = /^[!-/:-@[-`{-~]$/;

/** Words, with one punctuation mark split off their end or else their beginning. */
function wordsOf(text: string): string[] {
  return text
    .split(/\s+/)
    .filter(Boolean)
    .flatMap((word) => {
      const letters = [...word];
      if (letters.length === 1) return word;
      if (ascii.test(letters.at(-1)!)) return [letters.slice(0, -1).join(''), letters.at(-1)!];
      return ascii.test(letters[0]!) ? [letters[0]!, letters.slice(1).join('')] : word;
    });
}

function gramsOf(text: string, charOrder: number, wordOrder: number): Grams[] {
  const cut = (items: readonly string[], n: number, glue: string) =>
    counts(items.slice(n - 1).map((_, i) => items.slice(i, i + n).join(glue)));
  const letters = [...text.replace(/\s+/g, '')];
  const words = wordOrder > 0 ? wordsOf(text) : [];
  return [
    ...Array.from({ length: charOrder }, (_, n) => cut(letters, n + 1, '')),
    ...Array.from({ length: wordOrder }, (_, n) => cut(words, n + 1, ' ')),
  ];
}

function compare(prediction: readonly Grams[], reference: readonly Grams[]): Statistics {
  return prediction.map((grams, order) => {
    const other = reference[order]!;
    const sum = (of: Grams) => [...of.values()].reduce((a, b) => a + b, 0);
    let hits = 0;
    for (const [gram, count] of grams) hits += Math.min(count, other.get(gram) ?? 0);
    return [other.size > 0 ? sum(grams) : 0, sum(other), hits];
  });
}

function fScore(statistics: Statistics, beta: number): number {
  const both = statistics.filter(([predicted, expected]) => predicted > 0 && expected > 0);
  if (both.length === 0) return 0;
  const precision = both.reduce((sum, [predicted, , hits]) => sum + hits / predicted, 0) / both.length;
  const recall = both.reduce((sum, [, expected, hits]) => sum + hits / expected, 0) / both.length;
  if (precision + recall === 0) return 0;
  return (100 * (1 + beta ** 2) * precision * recall) / (beta ** 2 * precision + recall);
}

/** chrF in [0, 100] of predictions against one or more references each. @throws UsageError if the lists do not fit */
export function chrf(
  predictions: readonly string[],
  references: readonly (readonly string[])[],
  { char_order = 6, word_order = 0, beta = 2 }: ChrfOptions = {},
): { score: number; signature: string } {
  paired('chrf', predictions, references);
  const total: Statistics = Array.from({ length: char_order + word_order }, () => [0, 0, 0]);
  predictions.forEach((prediction, i) => {
    if (references[i]!.length === 0)
      throw new UsageError(`chrf: prediction ${i + 1} has no reference, expected one or more`);
    const grams = gramsOf(prediction, char_order, word_order);
    let best: { statistics: Statistics; score: number } | undefined;
    for (const reference of references[i]!) {
      const statistics = compare(grams, gramsOf(reference, char_order, word_order));
      const score = fScore(statistics, beta);
      if (!best || score > best.score) best = { statistics, score };
    }
    best!.statistics.forEach((row, order) => {
      for (let k = 0; k < 3; k++) total[order]![k]! += row[k]!;
    });
  });
  return { score: fScore(total, beta), signature: chrfSignature(references, { char_order, word_order }) };
}

/** What the score depends on, in sacreBLEU's words. */
export const chrfSignature = (
  references: readonly (readonly string[])[],
  { char_order = 6, word_order = 0 }: ChrfOptions = {},
): string => `nrefs:${countOf(references)}|case:mixed|eff:yes|nc:${char_order}|nw:${word_order}|space:no`;
