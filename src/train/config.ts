/** Every setting of a pre-training run: type, default, unit and one line of documentation, written once. */
import * as z from 'zod';
import { devices } from '../backend/devices.ts';
import { fat5Denoisers } from '../data/denoiser.ts';
import { t5ConfigFields } from '../model/config.ts';
import { scheduleNames } from '../optim/schedule.ts';

export const count = z.int('a whole number from 1').min(1, 'a whole number from 1');
export const countOrZero = z.int('a whole number, 0 or more').min(0, 'a whole number, 0 or more');
export const positive = z.number('a positive number').gt(0, 'a positive number');
const notNegative = z.number('a number, 0 or more').min(0, 'a number, 0 or more');
export const share = z.number('a number in [0, 1)').min(0, 'a number in [0, 1)').lt(1, 'a number in [0, 1)');
export const text = z.string('a text').min(1, 'a text that is not empty');
export const oneOf = <const V extends readonly [string, ...string[]]>(...values: V) =>
  z.enum(values, `one of ${values.join(', ')}`);

/** One denoiser of UL2's mixture (data/denoiser.ts). */
const denoiser = z.strictObject({
  mean_span: positive.describe('mean length of a masked span, tokens; density 0: the whole over the kept beginning'),
  noise_density: share.describe('share of tokens that is masked; 0: everything after the beginning'),
  max_spans: count.optional().describe('most spans of an example'),
  prefix: z
    .string('a mode token or ""')
    .default('')
    .describe('mode token in front of the source: [R], [S], [X] or none'),
  proportion: positive.describe('share of the examples, relative to the other denoisers'),
});

/** Settings that the objective does not have must be absent or null; the others get its defaults (`objectiveDefaults`). */
const data = z.strictObject({
  folder: text.describe('token shards made by "fat5 data prepare", with held-out ones'),
  objective: oneOf('ul2', 'span_corruption')
    .default('ul2')
    .describe('ul2: a mixture of denoisers; span_corruption: plain T5'),
  max_length: count.default(512).describe('source positions of a row, after corruption'),
  max_labels_length: count
    .optional()
    .describe('ul2: target positions of a row; as many as source positions by default'),
  denoisers: z
    .array(denoiser)
    .min(1, 'at least one denoiser')
    .optional()
    .describe("ul2: the mixture; FAT5's seven by default"),
  packing: oneOf('best_fit', 'concatenate', 'none')
    .optional()
    .describe('ul2: examples of a row do not see each other; concatenate: as FAT5, they do; none: one example a row'),
  min_document_length: countOrZero.optional().describe('ul2: documents of at most this many tokens are left out'),
  noise_density: share.optional().describe('span_corruption: share of tokens that is masked'),
  mean_span: positive.optional().describe('span_corruption: mean length of a masked span, tokens'),
});

const modes = { R: '[R]', S: '[S]', X: '[X]' } as const;

/** What an objective means by default. */
export const objectiveDefaults = {
  ul2: (max_length: number) => ({
    max_labels_length: max_length,
    packing: 'best_fit' as const,
    min_document_length: 10,
    denoisers: fat5Denoisers({ R: [], S: [], X: [] }).map(({ name, mean_span, noise_density, proportion }) => ({
      mean_span,
      noise_density,
      prefix: modes[name![0] as keyof typeof modes],
      proportion,
    })),
  }),
  span_corruption: () => ({ noise_density: 0.15, mean_span: 3 }),
};

const schedule = z.strictObject({
  name: oneOf(...scheduleNames)
    .default('cosine')
    .describe("cosine: nanoT5's; legacy: T5's inverse square root; wsd: warm-up, stable, decay"),
  warmup_steps: countOrZero.optional().describe('steps until the full learning rate'),
  warmup_start: share.optional().describe('share of the learning rate that warm-up starts from'),
  decay_steps: countOrZero.optional().describe('wsd: steps of the final decay'),
  final_factor: share.optional().describe('linear, wsd: share of the learning rate at the end'),
  final_learning_rate: notNegative.optional().describe('cosine: learning rate at the end'),
});

/** Settings that an optimizer does not have must be absent or null; the others get its defaults (optim/options.ts). */
export const optim = z.strictObject({
  name: oneOf('adamw_scale', 'adamw', 'adafactor', 'muon')
    .default('adamw_scale')
    .describe('muon: matrices by Muon, the rest by AdamWScale'),
  learning_rate: positive.optional().describe('the highest of the schedule; legacy has its own'),
  weight_decay: notNegative.optional().describe('per step and learning rate'),
  no_decay: z.array(text).optional().describe('parameters whose name contains one of these are not decayed'),
  rounding: oneOf('nearest', 'kahan', 'stochastic', 'master')
    .optional()
    .describe('how bf16 weights keep small changes'),
  betas: z.tuple([share, share]).optional().describe('decay of the two moments'),
  eps: z
    .union([positive, z.tuple([positive, positive])])
    .optional()
    .describe('added to the denominator; adafactor: two'),
  state_dtype: oneOf('float32', 'bfloat16').optional().describe('type of the moments'),
  clip_threshold: positive.optional().describe('adafactor: largest RMS of an update before the learning rate'),
  decay_rate: z.number('a negative number').lt(0).optional().describe("adafactor: exponent of the moments' decay"),
  momentum: share.optional().describe('muon: decay of the momentum'),
  iterations: count.optional().describe('muon: Newton-Schulz iterations'),
  update_rms: positive.optional().describe('muon: RMS of an update, in learning rates'),
  schedule: schedule.prefault({}),
});

const train = z.strictObject({
  steps: count.default(65536).describe('optimizer steps of the whole run'),
  rows: count.default(128).describe('rows of one micro-batch'),
  accumulation: count.default(1).describe('micro-batches of one step'),
  max_grad_norm: positive.nullable().default(1).describe('gradients are scaled to this global L2 norm; null: never'),
  seed: countOrZero.default(42).describe('of weights, batches and dropout'),
  dtype: oneOf('float32', 'bfloat16').default('float32').describe('type of weights and activations'),
  device: oneOf(...devices)
    .default('auto')
    .describe('where the model lives'),
  activation_checkpointing: z
    .union([z.boolean(), z.literal('cross_attention')], 'true, false or cross_attention')
    .default(false)
    .describe("compute twice to keep fewer activations: those of all blocks, or cross-attention's keys and values"),
  ema: share.nullable().default(null).describe('decay of an exponential moving average of the weights; null: none'),
});

const evaluate = z.strictObject({
  every: countOrZero.default(1000).describe('steps between evaluations; 0: none. One more at the end'),
  batches: count.default(50).describe('micro-batches of the fixed held-out set'),
});

const checkpoint = z.strictObject({
  every: count.default(1000).describe('steps between checkpoints; one more at the end'),
  keep: count.default(3).describe('how many of the newest stay on the disk'),
  keep_every: countOrZero.default(0).describe('checkpoints of steps divisible by this stay for ever; 0: none'),
});

const log = z.strictObject({
  every: count.default(100).describe('steps between records of metrics.jsonl and printed lines'),
});

/** Every key of a run's settings with its default and its help. */
export const trainConfigSchema = z.strictObject({
  name: text.describe('the run directory is runs_directory/name'),
  runs_directory: text.default('runs').describe('where run directories are'),
  tokenizer: text.describe('folder with tokenizer.json'),
  model: z.strictObject(t5ConfigFields).describe("the model: fields of Hugging Face's config.json and FAT5's"),
  data,
  optim: optim.prefault({}),
  train: train.prefault({}),
  evaluate: evaluate.prefault({}),
  checkpoint: checkpoint.prefault({}),
  log: log.prefault({}),
});

/** A run's settings, every default filled in. */
export type TrainConfig = z.output<typeof trainConfigSchema>;
