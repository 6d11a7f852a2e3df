/**
 * A class for every word, such as named entities. The first token of a word speaks for it; the others have no loss. Long
 * texts are read in windows.
 */
import { entityScores } from '../../eval/metrics/entities.ts';
import { T5ForTokenClassification, type TokenClassificationBatch } from '../../model/heads.ts';
import { IGNORED } from '../../util/batch.ts';
import { UsageError } from '../../util/errors.ts';
import { inGroups, padded } from '../../util/id_rows.ts';
import { type ClassWeights, sumOf, weightsOf } from '../class_weights.ts';
import { labelsOf } from '../head.ts';
import { listOf, type Row } from '../rows.ts';
import { classes, sourcesOf, type Task, type TaskTools } from '../task.ts';
import { wordWindows } from './word_windows.ts';

export interface TokenClassificationOptions {
  /** Columns with the lists of words and tags. */
  tokens: string;
  tags: string;
  labels?: readonly string[] | undefined;
  /** What each class counts in the loss. */
  class_weights?: ClassWeights;
  /** Tokens that windows of a long text share; a quarter of the longest source when left out. */
  stride?: number | undefined;
}

/** A part of a row's words. */
interface Window {
  source: number[];
  /** Of the words that count here: which they are, and the position of each one's first token. */
  words: { index: number; at: number }[];
  /** At those positions the class, elsewhere IGNORED. */
  labels: number[];
}

/** While training one window; else a row with all of them. */
interface Example {
  windows: Window[];
  words: string[];
  tags: string[];
}

/** The classes of an example's words. */
const counted = ({ windows }: Example): number[] =>
  windows.flatMap(({ labels }) => labels.filter((label) => label !== IGNORED));

/** A tag for each word of each row. */
export function tokenClassification(
  options: TokenClassificationOptions,
  tools: TaskTools,
): Task<Example, TokenClassificationBatch, T5ForTokenClassification> {
  const { tokenizer, max_length } = tools;
  const room = max_length - 1; // the end token needs a place
  const stride = options.stride ?? Math.floor(max_length / 4);
  if (stride >= room)
    throw new UsageError(`task.stride: is ${stride}, expected less than train.max_length ${max_length} - 1`);
  let labels: readonly string[] = [];
  let weights: number[] | undefined;

  const exampleOf = (row: Row): Example => {
    const [words, tags] = [listOf(row, options.tokens), listOf(row, options.tags)];
    if (words.length !== tags.length)
      throw new UsageError(`${row.place}: ${words.length} words with ${tags.length} tags, expected as many`);
    const wanted = tags.map((tag) => {
      const label = labels.indexOf(tag);
      if (label < 0)
        throw new UsageError(
          `${row.place}: tag "${tag}" is unknown, expected one of ${labels.join(', ')}; name it in task.labels or have it in a training row`,
        );
      return label;
    });
    const pieces = words.map((word) => {
      const ids = tokenizer.encode(word, { add_special_tokens: false }).slice(0, room);
      return ids.length > 0 ? ids : [tokenizer.unk_token_id]; // a word of nothing but control characters
    });
    const windows = wordWindows(
      pieces.map(({ length }) => length),
      room,
      stride,
    );
    return { words, tags, windows: windows.map((window) => windowOf(window, pieces, wanted, tokenizer.eos_token_id)) };
  };

  return {
    columns: [options.tokens, options.tags],
    metric: 'f1',
    model: T5ForTokenClassification,
    configuration: () => classes(labels),
    examples(rows, split) {
      if (split === 'train') {
        const found = new Set(rows.flatMap((row) => listOf(row, options.tags)));
        labels = labelsOf(options.labels ?? [...found].sort(), tools.head);
      }
      const examples = rows.map(exampleOf);
      if (split !== 'train') return examples;
      weights = weightsOf(options.class_weights, labels, examples.flatMap(counted));
      return examples.flatMap((example) => example.windows.map((window) => ({ ...example, windows: [window] })));
    },
    lengthOf: ({ windows }) => Math.max(...windows.map(({ source }) => source.length)),
    wanted: ({ words, tags }) => ({ words, tags }),
    batch(examples) {
      const windows = examples.map((example) => example.windows[0]!);
      const target = padded(
        windows.map((window) => window.labels),
        IGNORED,
      ).input_ids;
      const tokens = sumOf(weights, examples.flatMap(counted));
      return { inputs: { ...sourcesOf(windows, tokenizer), labels: target, class_weights: weights }, tokens };
    },
    async predict(model, examples) {
      const windows = examples.flatMap((example) => example.windows);
      const lengthOf = ({ source }: Window) => source.length;
      const found = await inGroups(windows, tools.rows, lengthOf, async (group) => {
        const { logits } = await model.forward(sourcesOf(group, tokenizer));
        const [, columns, width] = logits.dims as [number, number, number];
        return group.map(({ words }, row) =>
          words.map(({ at }) => {
            const from = (row * columns + at) * width;
            const scores = logits.data.subarray(from, from + width) as Float32Array;
            return labels[scores.indexOf(Math.max(...scores))]!;
          }),
        );
      });
      let next = 0;
      // A row's windows are in order, and so are the words that count in each.
      return examples.map((example) => example.windows.flatMap(() => found[next++]!));
    },
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

function windowOf(
  { first, last, counted: own }: ReturnType<typeof wordWindows>[number],
  pieces: readonly (readonly number[])[],
  wanted: readonly number[],
  end: number,
): Window {
  const source: number[] = [];
  const places = new Map<number, number>();
  for (let word = first; word < last; word++) {
    places.set(word, source.length);
    source.push(...pieces[word]!);
  }
  source.push(end);
  const labels = new Array<number>(source.length).fill(IGNORED);
  const words = own.map((index) => ({ index, at: places.get(index)! }));
  for (const { index, at } of words) labels[at] = wanted[index]!;
  return { source, words, labels };
}
