/** Every setting of a fine-tuning run: type, default, unit and one line of documentation, written once. */
import * as z from 'zod';
import { devices } from '../backend/devices.ts';
import { count, countOrZero, oneOf, optim, positive, share, text } from '../train/config.ts';
import { checkSettings, completeOptim, readSettings } from '../train/config_file.ts';
import { UsageError } from '../util/errors.ts';
import { taskSettings } from './task_settings.ts';

const sources = z.union([text.transform((path) => [path]), z.array(text).min(1)]);

const data = z.strictObject({
  train: sources.describe('files or globs: .jsonl, .csv, .tsv, .conll (.gz, .zst)'),
  validation: sources.optional().describe('rows that choose the best step'),
  test: sources.optional().describe('rows that the best step is scored on at the end'),
  limit: count.optional().describe('rows of a split at most; all when left out'),
});

const lora = z.strictObject({
  rank: count.default(8).describe('rows of A: how much can be learnt'),
  alpha: positive.default(16).describe('the product counts alpha / rank'),
  dropout: share.default(0).describe("share of the product's input that is dropped"),
  targets: z
    .array(text)
    .min(1, 'at least one name')
    .default(['q', 'v'])
    .describe('ends of the names of the adapted matrices: q, k, v, o, wi_0, wi_1, wo, EncDecAttention.q'),
});

const train = z.strictObject({
  epochs: positive.default(3).describe('passes over the training rows; 0.5: half of them'),
  rows: count.default(16).describe('examples of one micro-batch'),
  accumulation: count.default(1).describe('micro-batches of one step'),
  max_length: count.default(512).describe('longest source, tokens; longer ones are cut'),
  max_target_length: count.default(128).describe('longest target, tokens, also while predicting'),
  max_grad_norm: positive.nullable().default(1).describe('gradients are scaled to this global L2 norm; null: never'),
  label_smoothing: share
    .optional()
    .describe("share of the target probability spread over the vocabulary or the classes; the model's when left out"),
  dropout: share.optional().describe("share of elements that is dropped; the model's when left out"),
  frozen: z
    .array(text)
    .default([])
    .describe('parameters that stay as they are, by parts of their names: shared, encoder.block.0-5, decoder'),
  layer_decay: z
    .number('a number above 0, at most 1')
    .gt(0, 'a number above 0, at most 1')
    .max(1, 'a number above 0, at most 1')
    .default(1)
    .describe('what the learning rate is multiplied by from each block to the one below it, and to the embeddings'),
  lora: lora
    .optional()
    .describe('learn two small matrices beside each of these and the head instead of all parameters'),
  seed: countOrZero.default(42).describe('of new weights, order of the rows and dropout'),
  seeds: z
    .array(countOrZero)
    .min(2, 'at least two numbers')
    .refine((seeds) => new Set(seeds).size === seeds.length, 'numbers that differ')
    .optional()
    .describe('instead of seed: a run for each of these, with mean and interval of the scores'),
  dtype: oneOf('float32', 'bfloat16').default('float32').describe('type of weights and activations'),
  device: oneOf(...devices)
    .default('auto')
    .describe('where the model lives'),
});

const evaluate = z.strictObject({
  every: positive.default(1).describe('epochs between scores on the validation rows'),
  rows: count.default(32).describe('examples predicted at a time'),
  metric: text.optional().describe("score that decides which step is the best; the task's own when left out"),
  patience: countOrZero.default(0).describe('stop after this many scores in a row that are no better; 0: never'),
});

const log = z.strictObject({
  every: count.default(20).describe('steps between records of metrics.jsonl'),
  watts: positive.optional().describe('power to estimate the energy with where the machine does not tell it'),
});

/** Every key of a fine-tuning run's settings with its default and its help. */
export const finetuneConfigSchema = z.strictObject({
  name: text.describe('the run directory is runs_directory/name'),
  runs_directory: text.default('runs').describe('where run directories are'),
  model: text.describe('folder of a model or of a run; its shape alone where weights is random'),
  weights: oneOf('checkpoint', 'backbone', 'random')
    .default('checkpoint')
    .describe('start from the checkpoint, from it with a new head, or from nothing'),
  tokenizer: text.optional().describe("a tokenizer's folder, file or name on the hub; the model's own when left out"),
  task: z.discriminatedUnion(
    'name',
    Object.values(taskSettings) as [
      (typeof taskSettings)['text_to_text'],
      ...(typeof taskSettings)[keyof typeof taskSettings][],
    ],
    `one of ${Object.keys(taskSettings).join(', ')}`,
  ),
  data,
  optim: optim.prefault({ name: 'adamw', learning_rate: 3e-4, schedule: { name: 'linear' } }),
  train: train.prefault({}),
  evaluate: evaluate.prefault({}),
  log: log.prefault({}),
});

/** A fine-tuning run's settings, every default filled in. */
export type FinetuneConfig = z.output<typeof finetuneConfigSchema>;

/** The settings of a file with overrides applied. @throws UsageError as train/config_file.ts */
export function loadFinetuneConfig(path: string, overrides: readonly string[] = []): FinetuneConfig {
  const config = checkSettings(finetuneConfigSchema, readSettings(path, overrides), path);
  const { name, kind } = config.task as { name: string; kind?: string };
  const smooth = name !== 'similarity' && name !== 'preferences' && ['single_label', 'text', undefined].includes(kind);
  if (config.train.label_smoothing && !smooth)
    throw new UsageError(
      `${path}: train.label_smoothing means nothing to ${kind ?? name}, expected 0, or a task that predicts texts or one class`,
    );
  if (name === 'similarity' && config.train.dtype !== 'float32')
    throw new UsageError(
      `${path}: train.dtype: is ${config.train.dtype}, expected float32 for vectors of sentences, whose cosines need it`,
    );
  if (config.train.lora && config.weights === 'random')
    throw new UsageError(
      `${path}: train.lora learns beside the matrices of a checkpoint, expected weights: checkpoint instead of random`,
    );
  return { ...config, optim: completeOptim(config.optim, path) };
}
