/** Vectors of sentences: near where two belong together. Scored by the cosines, or by finding each sentence's partner. */
import { pearson, spearman } from '../../eval/metrics/correlation.ts';
import type { HeadBatch } from '../../model/heads.ts';
import { type SentencePairs, T5SentenceEncoder } from '../../model/sentence_encoder.ts';
import { UsageError } from '../../util/errors.ts';
import { inGroups, padded } from '../../util/id_rows.ts';
import { numberOf, textOf } from '../rows.ts';
import { fitted, type Scores, type Task, type TaskTools } from '../task.ts';

export interface SimilarityOptions {
  /** Columns of the two sentences. */
  input: readonly [string, string];
  /** Column of how alike they are; without it every row is a pair that belongs together. */
  target?: string | undefined;
  /** What the target is divided by: a score of this is a cosine of 1. */
  max_score: number;
  /** cosine: the target's; contrastive: each row's partner among those of its batch. The target decides when left out. */
  loss?: 'cosine' | 'contrastive' | undefined;
  /** contrastive with a target: share of max_score from which a training row's sentences belong together. */
  positive_from: number;
  /** contrastive: what cosines are divided by. */
  temperature: number;
}

interface Example {
  pair: [number[], number[]];
  /** The wanted cosine, where there is a target. */
  score: number | undefined;
}

/** Predictions are cosines; without a target, the place of the partner among all second sentences, 1 for the nearest. */
export function similarity(
  { input, target, max_score, loss, positive_from, temperature }: SimilarityOptions,
  tools: TaskTools,
): Task<Example, HeadBatch<SentencePairs>, T5SentenceEncoder> {
  const { tokenizer, rows } = tools;
  const pad = tokenizer.pad_token_id;
  const isContrastive = (loss ?? (target === undefined ? 'contrastive' : 'cosine')) === 'contrastive';
  if (!isContrastive && target === undefined)
    throw new UsageError('task.target: is missing, expected the column of the cosines that task.loss "cosine" wants');
  return {
    columns: [...input, ...(target === undefined ? [] : [target])],
    metric: target === undefined ? 'accuracy' : 'spearman',
    model: T5SentenceEncoder,
    configuration: () => ({}),
    examples(read, split) {
      const examples = read.map((row) => ({
        pair: input.map((column) => fitted(tools, row.place, textOf(row, column))) as [number[], number[]],
        score: target === undefined ? undefined : numberOf(row, target) / max_score,
      }));
      if (split !== 'train' || !isContrastive || target === undefined) return examples;
      const together = examples.filter(({ score }) => score! >= positive_from);
      if (together.length > 0) return together;
      throw new UsageError(
        `task.positive_from: no training row has a "${target}" from ${positive_from * max_score} on, ` +
          `${positive_from} of ${max_score}, expected some whose sentences belong together`,
      );
    },
    lengthOf: ({ pair: [first, second] }) => Math.max(first.length, second.length),
    wanted: ({ score }) => score ?? 1,
    batch: (examples) => ({
      inputs: {
        ...padded([...examples.map(({ pair }) => pair[0]), ...examples.map(({ pair }) => pair[1])], pad),
        ...(!isContrastive && { scores: examples.map(({ score }) => score!) }),
        temperature,
      },
      tokens: examples.length,
    }),
    async predict(model, examples) {
      const [first, second] = await Promise.all(
        [0, 1].map((side) =>
          inGroups(
            examples.map(({ pair }) => pair[side]!),
            rows,
            (ids) => ids.length,
            async (group) => (await model.embed(padded(group, pad))).tolist() as number[][],
          ),
        ),
      );
      const cosine = (i: number, j: number) => first![i]!.reduce((sum, x, d) => sum + x * second![j]![d]!, 0);
      if (target !== undefined) return examples.map((_, i) => cosine(i, i));
      return examples.map((_, i) => {
        const own = cosine(i, i);
        return 1 + examples.filter((_, j) => j !== i && cosine(i, j) >= own).length;
      });
    },
    scores(examples, predictions): Scores {
      const given = predictions as number[];
      const mean = (values: number[]) => values.reduce((a, b) => a + b, 0) / values.length;
      if (target === undefined)
        return {
          accuracy: 100 * mean(given.map((place) => (place === 1 ? 1 : 0))),
          mean_reciprocal_rank: 100 * mean(given.map((place) => 1 / place)),
        };
      const wanted = examples.map(({ score }) => score!);
      return {
        pearson: 100 * pearson(given, wanted),
        spearman: 100 * spearman(given, wanted),
        mse: mean(given.map((x, i) => (x - wanted[i]!) ** 2)),
      };
    },
  };
}
