/** What a task is: how rows become examples, batches, predictions and scores. The loop knows tasks by this alone. */

import type { Device } from '../backend/devices.ts';
import type { T5Config } from '../model/config.ts';
import type { PretrainedT5 } from '../model/pretrained.ts';
import type { Tokenizer } from '../tokenizer/tokenizer.ts';
import type { Trainable } from '../train/trainer.ts';
import { padded } from '../util/id_rows.ts';
import type { Head } from './head.ts';
import type { Row } from './rows.ts';

/** Scores by name; what they mean is said where they are computed (eval/metrics). */
export type Scores = Record<string, number>;

/** What a task may use. */
export interface TaskTools {
  tokenizer: Tokenizer;
  /** Longest source and target, in tokens; longer ones are cut at their end. */
  max_length: number;
  max_target_length: number;
  /** Rows of a batch while predicting. */
  rows: number;
  /** The head that the checkpoint has for this task. */
  head?: Head | undefined;
  /** Told of every text that is cut. */
  onCut?(cut: Cut): void;
}

/** A text that is longer than its limit. */
export interface Cut {
  /** Of its row. */
  place: string;
  tokens: number;
  limit: 'max_length' | 'max_target_length';
}

/** A model that a task trains. */
export type TaskModel<B extends { tokens: number }> = PretrainedT5 & Trainable<B>;

/** A class of such models, opened for a number of labels. */
export interface TaskModelClass<M> {
  from_pretrained(folder: string, options: object): Promise<M>;
  from_config(config: T5Config, options: object): M;
}

/** What a task may use for its work before training. */
export interface Preparation<E, M> {
  /** The run's folder: what lies there already need not be made again. */
  directory: string;
  train: E[];
  /** Of all held-out splits. */
  heldOut: E[];
  /** Which model the run starts from, as a text that differs where the model does. */
  origin: string;
  /** Where models live and in which type. */
  options: { device: Device; dtype: 'float32' | 'bfloat16' };
  /** Opens the model that the run starts from; the caller disposes of it. */
  open(): Promise<M>;
  note(line: string): void;
  progress(line: string): void;
  /** Aborted to stop soon. */
  signal: AbortSignal;
}

/** A task with examples E and batches B for models M. */
export interface Task<E, B extends { tokens: number }, M extends TaskModel<B>> {
  /** Columns that every row must have. */
  readonly columns: readonly string[];
  /** The score that decides which step is the best, unless the settings name another; higher is better. */
  readonly metric: string;
  readonly model: TaskModelClass<M>;
  /** What the model's configuration must say besides the checkpoint's, known once the training examples are read. */
  configuration(): Partial<T5Config>;
  /** Reads labels from training rows; later rows with others are errors. @throws UsageError naming the row */
  examples(rows: readonly Row[], split: 'train' | 'held-out'): E[];
  /**
   * Work that is done once before training and kept in the run's folder. False where the signal ended it: it goes on from
   * there when it is called again. @throws UsageError, FormatError
   */
  prepare?(tools: Preparation<E, M>): Promise<boolean>;
  /** Indices of the training examples of an epoch, always as many; each once where this is left out. */
  epoch?(seed: number, epoch: number): readonly number[];
  /** Tokens of an example: batches hold examples of similar length. */
  lengthOf(example: E): number;
  batch(examples: readonly E[], config: T5Config): B;
  /** One prediction an example, as it is written to predictions.jsonl. */
  predict(model: M, examples: readonly E[]): Promise<unknown[]>;
  /** What each example wanted, in the form of the predictions. */
  wanted(example: E): unknown;
  scores(examples: readonly E[], predictions: readonly unknown[]): Scores;
  /** What the scores depend on that their names do not say, in the words of the package that defines them. */
  signatures?(examples: readonly E[]): Record<string, string>;
}

/** A task whose types only it knows: what the loop handles. */
// biome-ignore lint/suspicious/noExplicitAny: examples, batches and models meet only in the task that made them
export type AnyTask = Task<any, any, any>;

/** Sources of examples as a model's inputs. */
export const sourcesOf = (examples: readonly { source: readonly number[] }[], { pad_token_id }: Tokenizer) =>
  padded(
    examples.map(({ source }) => source),
    pad_token_id,
  );

/** The configuration of a head with these classes. */
export const classes = (names: readonly string[]) => ({
  num_labels: names.length,
  id2label: Object.fromEntries(names.map((name, i) => [i, name])),
  label2id: Object.fromEntries(names.map((name, i) => [name, i])),
});

/** Ids of a text with its end token, cut to a length with the end token kept. */
export function encoded(tokenizer: Tokenizer, text: string, maxLength: number): number[] {
  const ids = tokenizer.encode(text, { split_special_tokens: false });
  return ids.length <= maxLength ? ids : [...ids.slice(0, maxLength - 1), tokenizer.eos_token_id];
}

/** The same of a row's source or target; that it is cut is told. */
export function fitted(tools: TaskTools, place: string, text: string, limit: Cut['limit'] = 'max_length'): number[] {
  const ids = tools.tokenizer.encode(text, { split_special_tokens: false });
  if (ids.length <= tools[limit]) return ids;
  tools.onCut?.({ place, tokens: ids.length, limit });
  return [...ids.slice(0, tools[limit] - 1), tools.tokenizer.eos_token_id];
}
