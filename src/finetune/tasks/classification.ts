/**
 * A verdict on a text or a pair of texts: one class, several classes, or a number. The head sits on the encoder alone.
 */
import { classificationScores } from '../../eval/metrics/classification.ts';
import { pearson, spearman } from '../../eval/metrics/correlation.ts';
import type { T5Config } from '../../model/config.ts';
import { type SequenceClassificationBatch, T5ForSequenceClassification } from '../../model/heads.ts';
import { UsageError } from '../../util/errors.ts';
import { inGroups } from '../../util/id_rows.ts';
import { type ClassWeights, positiveWeightsOf, sumOf, weightsOf } from '../class_weights.ts';
import { labelsOf } from '../head.ts';
import { listOf, numberOf, type Row, textOf } from '../rows.ts';
import { classes, fitted, type Scores, sourcesOf, type Task, type TaskTools } from '../task.ts';

export interface ClassificationOptions {
  /** Columns of the text, or of the two texts of a pair. */
  input: readonly string[];
  /** Column of the label, the list of labels or the number. */
  target: string;
  kind: 'single_label' | 'multi_label' | 'regression';
  /** The classes; those of the training rows, sorted, when left out. */
  labels?: readonly string[] | undefined;
  /** What each class counts in the loss; multi_label: what it counts that it holds. */
  class_weights?: ClassWeights;
  /** multi_label: probability from which a class is predicted. */
  threshold: number;
}

interface Example {
  source: number[];
  /** Index of the class; 0 and 1 for every class; the number. */
  label: number | number[];
  wanted: unknown;
}

const problemTypes = {
  single_label: 'single_label_classification',
  multi_label: 'multi_label_classification',
  regression: 'regression',
} as const;

/** Between the texts of a pair. */
const pairSeparator = ' </s> ';

/** One class, several classes or a number for each row. */
export function classification(
  options: ClassificationOptions,
  tools: TaskTools,
): Task<Example, SequenceClassificationBatch, T5ForSequenceClassification> {
  const { kind, target } = options;
  const { tokenizer } = tools;
  if (options.class_weights !== undefined && kind === 'regression')
    throw new UsageError(
      'task.class_weights: means nothing to kind "regression", expected kinds with classes, or none',
    );
  let labels: readonly string[] = kind === 'regression' ? ['score'] : [];
  let weights: number[] | undefined;
  const indexOf = (row: Row, label: string): number => {
    const index = labels.indexOf(label);
    if (index < 0)
      throw new UsageError(
        `${row.place}: label "${label}" is unknown, expected one of ${labels.join(', ')}; name it in task.labels or have it in a training row`,
      );
    return index;
  };
  const labelOf = (row: Row): number | number[] => {
    if (kind === 'regression') return numberOf(row, target);
    const found = listOf(row, target).map((label) => indexOf(row, label));
    if (kind === 'multi_label') return labels.map((_, i) => (found.includes(i) ? 1 : 0));
    if (found.length !== 1) throw new UsageError(`${row.place}: ${found.length} labels in "${target}", expected one`);
    return found[0]!;
  };
  const namesOf = (label: number | number[]): unknown => {
    if (kind === 'regression') return label;
    return Array.isArray(label) ? labels.filter((_, i) => label[i] === 1) : labels[label];
  };
  return {
    columns: [...options.input, target],
    metric: { single_label: 'accuracy', multi_label: 'macro_f1', regression: 'spearman' }[kind],
    model: T5ForSequenceClassification,
    configuration(): Partial<T5Config> {
      return { ...classes(labels), problem_type: problemTypes[kind] };
    },
    examples(rows, split) {
      if (split === 'train') {
        const found = () => [...new Set(rows.flatMap((row) => listOf(row, target)))].sort(byNumberThenName);
        labels = labelsOf(kind === 'regression' ? labels : (options.labels ?? found()), tools.head);
        if (kind === 'single_label' && labels.length < 2)
          throw new UsageError(
            `${rows[0]!.place}: every row has "${labels[0]}" in "${target}", expected two classes or more to tell apart`,
          );
      }
      const examples = rows.map((row) => {
        const text = options.input.map((column) => textOf(row, column)).join(pairSeparator);
        const label = labelOf(row);
        return { source: fitted(tools, row.place, text), label, wanted: namesOf(label) };
      });
      if (split === 'train')
        weights =
          kind === 'multi_label'
            ? positiveWeightsOf(
                options.class_weights,
                labels,
                examples.map(({ label }) => label as number[]),
              )
            : weightsOf(options.class_weights, labels, indices(examples));
      return examples;
    },
    lengthOf: ({ source }) => source.length,
    wanted: (example) => example.wanted,
    batch: (examples) => ({
      inputs: { ...sourcesOf(examples, tokenizer), labels: targetsOf(examples), class_weights: weights },
      tokens: weights && kind === 'single_label' ? sumOf(weights, indices(examples)) : examples.length,
    }),
    predict: (model, examples) =>
      inGroups(
        examples,
        tools.rows,
        ({ source }) => source.length,
        async (group) => {
          const { logits } = await model.forward(sourcesOf(group, tokenizer));
          return (logits.tolist() as number[][]).map((row) => {
            if (kind === 'regression') return row[0];
            // a probability above the threshold is a logit above its log-odds
            const least = Math.log(options.threshold / (1 - options.threshold));
            return namesOf(
              kind === 'multi_label' ? row.map((x) => (x > least ? 1 : 0)) : row.indexOf(Math.max(...row)),
            );
          });
        },
      ),
    scores(examples, predictions): Scores {
      if (kind === 'regression') {
        const wanted = examples.map((e) => e.label as number);
        const given = predictions as number[];
        const mse = given.reduce((sum, x, i) => sum + (x - wanted[i]!) ** 2, 0) / given.length;
        return { pearson: 100 * pearson(given, wanted), spearman: 100 * spearman(given, wanted), mse };
      }
      const asList = (value: unknown) => (Array.isArray(value) ? (value as string[]) : [value as string]);
      const { accuracy, macro_f1, micro_f1 } = classificationScores(
        predictions.map(asList),
        examples.map((e) => asList(e.wanted)),
      );
      return { accuracy: 100 * accuracy, macro_f1: 100 * macro_f1, micro_f1: 100 * micro_f1 };
    },
  };
}

/** The class of each example that has one. */
const indices = (examples: readonly Example[]): number[] => examples.map(({ label }) => label as number);

/** A list of classes or numbers, or rows of 0 and 1. */
function targetsOf(examples: readonly Example[]): number[] | number[][] {
  return examples.map((e) => e.label) as number[] | number[][];
}

function byNumberThenName(a: string, b: string): number {
  const [x, y] = [Number(a), Number(b)];
  if (Number.isFinite(x) && Number.isFinite(y)) return x - y;
  return a < b ? -1 : 1;
}
