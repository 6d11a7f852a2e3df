/**
 * Corpus BLEU with the tokenisation and smoothing that sacreBLEU uses by default (13a, exp), up to four words a gram.
 *
 * Source: Papineni et al. 2002; Post 2018, arXiv:1804.08771; mteval-v13a's tokenisation.
 */
import { UsageError } from '../../util/errors.ts';
import { countOf, counts, paired } from './pairs.ts';

const ORDER = 4;
/** What the score depends on, in sacreBLEU's words. */
export const bleuSignature = (references: readonly (readonly string[])[]): string =>
  `nrefs:${countOf(references)}|case:mixed|eff:no|tok:13a|smooth:exp`;

/** mteval-v13a's words of a line. */
function tokenize13a(line: string): string[] {
  const plain = line
    .trimEnd()
    .replaceAll('<skipped>', '')
    .replaceAll('-\n', '')
    .replaceAll('\n', ' ')
    .replaceAll('&quot;', '"')
    .replaceAll('&amp;', '&')
    .replaceAll('&lt;', '<')
    .replaceAll('&gt;', '>');
  return ` ${plain} `
    .replace(/[{-~[-` -&(-+:-@/]/g, ' $& ')
    .replace(/([^0-9])([.,])/gu, '$1 $2 ')
    .replace(/([.,])([^0-9])/gu, ' $1 $2')
    .replace(/([0-9])(-)/g, '$1 $2 ')
    .split(/\s+/)
    .filter(Boolean);
}

/** Corpus BLEU in [0, 100] with what it is made of; `signature` in sacreBLEU's form. */
export interface BleuScore {
  /** In [0, 100], as the precisions. */
  score: number;
  /** Of 1 to 4 words, smoothed. */
  precisions: number[];
  brevity_penalty: number;
  signature: string;
}

const grams = (tokens: readonly string[], n: number): Map<string, number> =>
  counts(tokens.slice(n - 1).map((_, i) => tokens.slice(i, i + n).join(' ')));

/** BLEU of predictions against one or more references each. @throws UsageError if the lists do not fit together */
export function bleu(predictions: readonly string[], references: readonly (readonly string[])[]): BleuScore {
  paired('bleu', predictions, references);
  const hits = new Array<number>(ORDER).fill(0);
  const total = new Array<number>(ORDER).fill(0);
  let [length, referenceLength] = [0, 0];
  predictions.forEach((prediction, i) => {
    const tokens = tokenize13a(prediction);
    const others = references[i]!.map(tokenize13a);
    if (others.length === 0) throw new UsageError(`bleu: prediction ${i + 1} has no reference, expected one or more`);
    length += tokens.length;
    referenceLength += closest(
      tokens.length,
      others.map((other) => other.length),
    );
    for (let n = 1; n <= ORDER; n++) {
      const known = others.map((other) => grams(other, n));
      for (const [gram, count] of grams(tokens, n))
        hits[n - 1]! += Math.min(count, Math.max(...known.map((of) => of.get(gram) ?? 0)));
      total[n - 1]! += Math.max(tokens.length - n + 1, 0);
    }
  });
  const brevity_penalty = length >= referenceLength ? 1 : length > 0 ? Math.exp(1 - referenceLength / length) : 0;
  const precisions = smoothed(hits, total);
  const geometric = Math.exp(precisions.reduce((sum, p) => sum + Math.log(p), 0) / ORDER);
  const score = hits.some((count) => count > 0) && !precisions.includes(0) ? brevity_penalty * geometric : 0;
  return { score, precisions, brevity_penalty, signature: bleuSignature(references) };
}

/** The reference length nearest to the prediction's, of two the shorter. */
function closest(length: number, lengths: readonly number[]): number {
  return [...lengths].sort((a, b) => Math.abs(a - length) - Math.abs(b - length) || a - b)[0]!;
}

/** Precisions in per cent; orders without a hit get half the share of the one before. */
function smoothed(hits: readonly number[], total: readonly number[]): number[] {
  let half = 1;
  return hits.map((count, n) => {
    if (total[n] === 0) return 0;
    if (count > 0) return (100 * count) / total[n]!;
    half *= 2;
    return 100 / (half * total[n]!);
  });
}
