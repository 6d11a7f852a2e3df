/**
 * Exact match and F1 of answers, as SQuAD 2.0's evaluation defines them: the best over the true answers of a question,
 * after normalisation; a question without answer is right where the prediction is empty.
 *
 * Source: Rajpurkar et al. 2016, arXiv:1606.05250 and 2018, arXiv:1806.03822.
 */
import { counts, paired, plainText, singleSpaced } from './pairs.ts';

/** Lower case without ASCII punctuation, English articles and surplus spaces. */
const normalizeAnswer = (text: string): string =>
  singleSpaced(plainText(text).replace(/(?<![\p{L}\p{N}_])(a|an|the)(?![\p{L}\p{N}_])/gu, ' '));

/** 1 if the normalised texts are equal, else 0. */
export const exactMatch = (prediction: string, answer: string): number =>
  normalizeAnswer(prediction) === normalizeAnswer(answer) ? 1 : 0;

/** F1 of the words that two answers share, in [0, 1]; if either is empty, whether both are. */
export function answerF1(prediction: string, answer: string): number {
  const predicted = normalizeAnswer(prediction).split(' ').filter(Boolean);
  const expected = normalizeAnswer(answer).split(' ').filter(Boolean);
  if (predicted.length === 0 || expected.length === 0) return predicted.length === expected.length ? 1 : 0;
  const available = counts(expected);
  let hits = 0;
  for (const [word, count] of counts(predicted)) hits += Math.min(count, available.get(word) ?? 0);
  return (2 * hits) / (predicted.length + expected.length);
}

/** Scores by SQuAD 2.0's definitions. */
export interface AnswerScores {
  /** Per cent, as all scores here. */
  exact_match: number;
  f1: number;
  /** Over the questions that have an answer, and over those that have none; NaN where there are none of the kind. */
  has_answer: { exact_match: number; f1: number; count: number };
  no_answer: { exact_match: number; f1: number; count: number };
}

/** Scores of predicted answers ("" for none) against the true answers of each question ([] for none). @throws UsageError */
export function answerScores(predictions: readonly string[], references: readonly (readonly string[])[]): AnswerScores {
  paired('question answering', predictions, references);
  const rows = predictions.map((prediction, i) => {
    const kept = references[i]!.filter((answer) => normalizeAnswer(answer) !== '');
    const answers = kept.length > 0 ? kept : [''];
    return {
      answerable: kept.length > 0,
      exact: Math.max(...answers.map((answer) => exactMatch(prediction, answer))),
      f1: Math.max(...answers.map((answer) => answerF1(prediction, answer))),
    };
  });
  const mean = (of: typeof rows) => ({
    exact_match: (100 * of.reduce((sum, row) => sum + row.exact, 0)) / of.length,
    f1: (100 * of.reduce((sum, row) => sum + row.f1, 0)) / of.length,
    count: of.length,
  });
  const { exact_match, f1 } = mean(rows);
  const has_answer = mean(rows.filter((row) => row.answerable));
  const no_answer = mean(rows.filter((row) => !row.answerable));
  return { exact_match, f1, has_answer, no_answer };
}
