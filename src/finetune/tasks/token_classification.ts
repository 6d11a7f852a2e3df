/** A class for every word, such as named entities. The first token of a word speaks for it; the others have no loss. */
import { entityScores } from '../../eval/metrics/entities.ts';
import { T5ForTokenClassification, type TokenClassificationBatch } from '../../model/heads.ts';
import { IGNORED } from '../../util/batch.ts';
import { UsageError } from '../../util/errors.ts';
import { inGroups, padded } from '../../util/id_rows.ts';
import { type ClassWeights, sumOf, weightsOf } from '../class_weights.ts';
import { listOf } from '../rows.ts';
import { classes, sourcesOf, type Task, type TaskTools } from '../task.ts';

export interface TokenClassificationOptions {
  /** Columns with the lists of words and tags. */
  tokens: string;
  tags: string;
  labels?: readonly string[] | undefined;
  /** What each class counts in the loss. */
  class_weights?: ClassWeights;
}

interface Example {
  source: number[];
  /** Position of each word's first token; words cut off have none. */
  firsts: number[];
  labels: number[];
  words: string[];
  tags: string[];
}

/** The classes of an example's words. */
const counted = ({ labels }: Example): number[] => labels.filter((label) => label !== IGNORED);

/** A tag for each word of each row. */
export function tokenClassification(
  options: TokenClassificationOptions,
  tools: TaskTools,
): Task<Example, TokenClassificationBatch, T5ForTokenClassification> {
  const { tokenizer, max_length } = tools;
  let labels = options.labels;
  let weights: number[] | undefined;
  const build = (words: string[], tags: string[], place: string): Example => {
    const source: number[] = [];
    const firsts: number[] = [];
    const wanted: number[] = [];
    for (const [i, word] of words.entries()) {
      const pieces = tokenizer.encode(word, { add_special_tokens: false });
      if (source.length + pieces.length >= max_length) break; // the end token needs a place
      const label = labels!.indexOf(tags[i]!);
      if (label < 0)
        throw new UsageError(`${place}: tag "${tags[i]}" is unknown, expected one of ${labels!.join(', ')}`);
      firsts.push(source.length);
      source.push(...(pieces.length > 0 ? pieces : [tokenizer.unk_token_id])); // a word of nothing but control characters
      wanted[firsts.at(-1)!] = label;
    }
    source.push(tokenizer.eos_token_id);
    return { source, firsts, labels: Array.from(source, (_, i) => wanted[i] ?? IGNORED), words, tags };
  };
  return {
    columns: [options.tokens, options.tags],
    metric: 'f1',
    model: T5ForTokenClassification,
    configuration: () => classes(labels!),
    examples(rows, split) {
      if (split === 'train') labels ??= [...new Set(rows.flatMap((row) => listOf(row, options.tags)))].sort();
      const examples = rows.map((row) => {
        const [words, tags] = [listOf(row, options.tokens), listOf(row, options.tags)];
        if (words.length !== tags.length)
          throw new UsageError(`${row.place}: ${words.length} words with ${tags.length} tags, expected as many`);
        return build(words, tags, row.place);
      });
      if (split === 'train') weights = weightsOf(options.class_weights, labels!, examples.flatMap(counted));
      return examples;
    },
    lengthOf: ({ source }) => source.length,
    wanted: ({ words, tags }) => ({ words, tags }),
    batch(examples) {
      const target = padded(
        examples.map((e) => e.labels),
        IGNORED,
      ).input_ids;
      const tokens = sumOf(weights, examples.flatMap(counted));
      return { inputs: { ...sourcesOf(examples, tokenizer), labels: target, class_weights: weights }, tokens };
    },
    predict: (model, examples) =>
      inGroups(
        examples,
        tools.rows,
        ({ source }) => source.length,
        async (group) => {
          const { logits } = await model.forward(sourcesOf(group, tokenizer));
          const [, columns, width] = logits.dims as [number, number, number];
          return group.map(({ firsts, words }, row) => {
            const tags = firsts.map((at) => {
              const from = (row * columns + at) * width;
              const scores = logits.data.subarray(from, from + width) as Float32Array;
              return labels![scores.indexOf(Math.max(...scores))]!;
            });
            return [...tags, ...new Array<string>(words.length - tags.length).fill('O')]; // words cut off have no entity
          });
        },
      ),
    scores(examples, predictions) {
      const { micro, macro, invalid_tags, accuracy, per_type } = entityScores(
        predictions as string[][],
        examples.map((e) => e.tags),
      );
      return {
        f1: 100 * micro.f1,
        precision: 100 * micro.precision,
        recall: 100 * micro.recall,
        macro_f1: 100 * macro.f1,
        accuracy: 100 * accuracy,
        invalid_tags: 100 * invalid_tags,
        ...Object.fromEntries(Object.entries(per_type).map(([type, { f1 }]) => [`f1_${type}`, 100 * f1])),
      };
    },
  };
}
