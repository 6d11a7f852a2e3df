/**
 * ROUGE-N, ROUGE-L and ROUGE-Lsum as Google's rouge_score computes them, which is what papers report.
 *
 * Words are runs of a-z and 0-9 of the lower-cased text: letters with accents divide words, in French too. The union of
 * longest common subsequences of ROUGE-Lsum runs over sentences, one a line.
 *
 * Source: Lin 2004, "ROUGE: a package for automatic evaluation of summaries"; behaviour of rouge_score 0.1.2.
 */
import { UsageError } from '../../util/errors.ts';
import { counts } from './pairs.ts';
import { porterStem } from './porter.ts';

/** Shares in [0, 1]. */
export interface RougeScore {
  precision: number;
  recall: number;
  fmeasure: number;
}
export type RougeType = `rouge${number}` | 'rougeL' | 'rougeLsum';

export interface RougeOptions {
  /** rouge1, rouge2, rougeL and rougeLsum by default. */
  types?: readonly RougeType[];
  /** Compare Porter stems of words longer than three letters; false by default. */
  use_stemmer?: boolean;
}

const defaultTypes: readonly RougeType[] = ['rouge1', 'rouge2', 'rougeL', 'rougeLsum'];

const words = (text: string, stem: boolean): string[] =>
  (text.toLowerCase().match(/[a-z0-9]+/g) ?? []).map((word) => (stem && word.length > 3 ? porterStem(word) : word));

function score(hits: number, predicted: number, expected: number): RougeScore {
  const precision = hits / Math.max(predicted, 1);
  const recall = hits / Math.max(expected, 1);
  return { precision, recall, fmeasure: hits === 0 ? 0 : (2 * precision * recall) / (precision + recall) };
}

const grams = (tokens: readonly string[], n: number): string[] =>
  tokens.slice(n - 1).map((_, i) => tokens.slice(i, i + n).join(' '));

function rougeN(reference: string[], prediction: string[], n: number): RougeScore {
  const [expected, predicted] = [grams(reference, n), grams(prediction, n)];
  const available = counts(predicted);
  let hits = 0;
  for (const [gram, count] of counts(expected)) hits += Math.min(count, available.get(gram) ?? 0);
  return score(hits, predicted.length, expected.length);
}

/** Row i, column j: length of the longest common subsequence of the first i and first j words. */
function commonLengths(a: readonly string[], b: readonly string[]): Int32Array[] {
  const table = [new Int32Array(b.length + 1)];
  for (let i = 0; i < a.length; i++) {
    const above = table[i]!;
    const row = new Int32Array(b.length + 1);
    for (let j = 0; j < b.length; j++) row[j + 1] = a[i] === b[j] ? above[j]! + 1 : Math.max(above[j + 1]!, row[j]!);
    table.push(row);
  }
  return table;
}

/** Indices in `reference` of one longest common subsequence. Of several, the one rouge_score picks. */
function commonIndices(reference: readonly string[], prediction: readonly string[]): number[] {
  const table = commonLengths(reference, prediction);
  const indices: number[] = [];
  let [i, j] = [reference.length, prediction.length];
  while (i > 0 && j > 0) {
    if (reference[i - 1] === prediction[j - 1]) {
      indices.push(--i);
      j--;
    } else if (table[i]![j - 1]! > table[i - 1]![j]!) j--;
    else i--;
  }
  return indices;
}

function rougeL(reference: string[], prediction: string[]): RougeScore {
  const hits = commonLengths(reference, prediction)[reference.length]![prediction.length]!;
  return score(hits, prediction.length, reference.length);
}

function rougeLsum(reference: string[][], prediction: string[][]): RougeScore {
  const left = [counts(reference.flat()), counts(prediction.flat())];
  let hits = 0;
  for (const sentence of reference) {
    const union = new Set(prediction.flatMap((other) => commonIndices(sentence, other)));
    for (const i of [...union].sort((a, b) => a - b)) {
      const word = sentence[i]!;
      if (left.some((count) => (count.get(word) ?? 0) === 0)) continue; // each occurrence counts once
      for (const count of left) count.set(word, count.get(word)! - 1);
      hits++;
    }
  }
  return score(hits, prediction.flat().length, reference.flat().length);
}

/** Scores in [0, 1] of one prediction against one reference. @throws UsageError for an unknown type */
export function rouge(
  prediction: string,
  reference: string,
  { types = defaultTypes, use_stemmer = false }: RougeOptions = {},
): Record<string, RougeScore> {
  const tokens = (text: string) => words(text, use_stemmer);
  const sentences = (text: string) =>
    text
      .split('\n')
      .filter((line) => line.length > 0)
      .map(tokens);
  const one = (type: RougeType): RougeScore => {
    if (type === 'rougeL') return rougeL(tokens(reference), tokens(prediction));
    if (type === 'rougeLsum') return rougeLsum(sentences(reference), sentences(prediction));
    const n = Number(/^rouge([1-9])$/.exec(type)?.[1]);
    if (!n) throw new UsageError(`rouge: type is "${type}", expected rouge1 to rouge9, rougeL or rougeLsum`);
    return rougeN(tokens(reference), tokens(prediction), n);
  };
  return Object.fromEntries(types.map((type) => [type, one(type)]));
}
