/** Accuracy, precision, recall and F1 of single-label and multi-label classification, as scikit-learn defines them. */
import { paired } from './pairs.ts';

export interface F1 {
  precision: number;
  recall: number;
  f1: number;
  /** True examples of the class. */
  support: number;
}

/** Shares in [0, 1]. */
export interface ClassificationScores {
  /** Share of examples whose label (multi-label: whole label set) is right. */
  accuracy: number;
  /** Unweighted mean of the classes' F1. */
  macro_f1: number;
  /** F1 over all decisions. */
  micro_f1: number;
  /** Mean of the classes' F1 weighted by support. */
  weighted_f1: number;
  per_class: Record<string, F1>;
}

/** F1 from counts; 0 where nothing was predicted or nothing was there. */
export function f1Of(hits: number, predicted: number, expected: number): F1 {
  return {
    precision: predicted > 0 ? hits / predicted : 0,
    recall: expected > 0 ? hits / expected : 0,
    f1: predicted + expected > 0 ? (2 * hits) / (predicted + expected) : 0,
    support: expected,
  };
}

/**
 * Scores of label sets, one set (one label for single-label tasks) an example. The classes are those that occur on
 * either side. @throws UsageError unless lengths agree
 */
export function classificationScores(
  predictions: readonly (readonly string[])[],
  references: readonly (readonly string[])[],
): ClassificationScores {
  paired('classification', predictions, references);
  const classes = [...new Set([...references.flat(), ...predictions.flat()])].sort();
  const count = new Map(classes.map((name) => [name, { hits: 0, predicted: 0, expected: 0 }]));
  let exact = 0;
  predictions.forEach((prediction, i) => {
    const expected = new Set(references[i]);
    const predicted = new Set(prediction);
    for (const name of expected) count.get(name)!.expected++;
    for (const name of predicted) {
      count.get(name)!.predicted++;
      if (expected.has(name)) count.get(name)!.hits++;
    }
    if (predicted.size === expected.size && [...predicted].every((name) => expected.has(name))) exact++;
  });
  const rows = [...count.values()];
  const sum = (key: 'hits' | 'predicted' | 'expected') => rows.reduce((total, row) => total + row[key], 0);
  const per_class = Object.fromEntries([...count].map(([name, c]) => [name, f1Of(c.hits, c.predicted, c.expected)]));
  const scores = Object.values(per_class);
  const support = sum('expected');
  return {
    accuracy: exact / predictions.length,
    macro_f1: scores.reduce((total, { f1 }) => total + f1, 0) / Math.max(scores.length, 1),
    micro_f1: f1Of(sum('hits'), sum('predicted'), support).f1,
    weighted_f1: scores.reduce((total, { f1, support: s }) => total + f1 * s, 0) / Math.max(support, 1),
    per_class,
  };
}
