/**
 * The shape of a T5: Hugging Face's config.json fields under their own names, and ours for what FAT5 adds.
 *
 * Defaults are Hugging Face's for the model type. Keys that are not ours are kept and written back.
 */
import * as z from 'zod';
import { UsageError } from '../util/errors.ts';

/** What no model exceeds: a damaged file must not make us allocate or loop for ever. */
const MOST = 2 ** 31 - 1;
const MOST_LAYERS = 4096;

const wholeFrom1 = (most: number) => {
  const what = `a positive integer up to ${most}`;
  return z.int(what).min(1, what).max(most, what);
};
const size = wholeFrom1(MOST);
const layers = wholeFrom1(MOST_LAYERS);
const id = z.int('a token id, 0 or more').min(0, 'a token id, 0 or more');
const positive = z.number('a positive number').gt(0, 'a positive number');
const notNegative = z.number('a number, 0 or more').min(0, 'a number, 0 or more');
const share = z.number('a number in [0, 1)').min(0, 'a number in [0, 1)').lt(1, 'a number in [0, 1)');
const flag = z.boolean('true or false');
const oneOf = <const V extends readonly [string, ...string[]]>(...values: V) =>
  z.enum(values, `one of ${values.map((v) => `"${v}"`).join(', ')}`);

/** Spellings of FAT5's own configs. */
const respelled = (names: Record<string, string>) => (value: unknown) =>
  typeof value === 'string' ? (names[value] ?? value) : value;

const activations = ['relu', 'gelu', 'gelu_new', 'silu'] as const;
/** A name of a feed-forward layer's activation. */
export type ActivationKind = (typeof activations)[number];

const fields = {
  model_type: oneOf('t5', 'mt5', 'umt5', 'fat5')
    .default('t5')
    .describe("t5, mt5, umt5; fat5: T5 with something Hugging Face's lacks, so that its code refuses the file"),
  vocab_size: size.default(32128).describe('rows of the embedding, at least the ids of the tokenizer'),
  d_model: size.default(512).describe('width of the residual stream'),
  d_kv: size.default(64).describe('width of a head'),
  d_ff: size.default(2048).describe('width of the feed-forward layer'),
  num_layers: layers.default(6).describe('blocks of the encoder'),
  num_heads: size.default(8).describe('attention heads'),
  relative_attention_num_buckets: size.default(32).describe('rows of the table of relative positions'),
  relative_attention_max_distance: size
    .default(128)
    .describe('distance from which all positions share a bucket, tokens'),
  dropout_rate: share.default(0.1).describe('share of elements that is dropped while training'),
  classifier_dropout: share.default(0).describe('the same in front of a classification head'),
  layer_norm_epsilon: positive.default(1e-6).describe('added to the mean square in RMSNorm'),
  initializer_factor: positive.default(1).describe('scale of the initial weights'),
  pad_token_id: id.default(0).describe('id of padding'),
  eos_token_id: id.default(1).describe('id that ends a sequence'),
  decoder_start_token_id: id.default(0).describe('first id that the decoder reads'),

  share_input_embeddings: flag
    .default(true)
    .describe('both stacks read one embedding, as in T5; transformers 5 trains two where nothing is tied'),
  attention_scale: positive.default(1).describe('what attention scores are multiplied by: 1 in T5'),
  per_layer_position_bias: flag
    .optional()
    .describe('a bias table in every block, as UMT5, instead of one in the first'),
  position_encoding_type: z
    .preprocess(respelled({ ALiBi: 'alibi', RoPE: 'rope', FIRE: 'fire' }), oneOf('t5', 'alibi', 'rope', 'fire', 'none'))
    .default('t5')
    .describe('t5 (buckets), alibi, rope, fire or none'),
  alibi_mode: z
    .preprocess(respelled({ symetric: 'symmetric', asymetric: 'asymmetric' }), oneOf('symmetric', 'asymmetric'))
    .default('symmetric')
    .describe('asymmetric: half of the heads look back, half ahead'),
  rotary_emb_fraction: positive.max(1, 'a number in (0, 1]').default(1).describe('share of each head that rotates'),
  rotary_base: positive.default(10000).describe('base of the rotation frequencies'),
  /** Rotate neighbours (2i, 2i+1) instead of halves (i, i + dim/2). */
  rotary_interleaved: flag.default(false).describe('rotate neighbours (2i, 2i+1) instead of halves'),
  rotary_scale_base: positive.nullable().default(null).describe("xPos's scale base, positions; null: no xPos"),
  fire_mlp_width: size.default(32).describe("hidden width of FIRE's bias network"),
  use_randomized_position_encoding: flag.default(false).describe('draw positions at random while training'),
  max_sequence_length: size.default(1024).describe('range that randomised positions are drawn from'),
  /** Standard deviation of a new lm_head: d_model^-1/2, or 1 as nanoT5 has it. */
  lm_head_init: oneOf('scaled', 'unit')
    .default('scaled')
    .describe('standard deviation of a new lm_head: d_model^-1/2 (scaled), or 1 as nanoT5 (unit)'),
  attention_init: oneOf('normal', 'aligned')
    .default('normal')
    .describe(
      "how attention starts: T5's (normal), or looking at tokens nearby (half of the heads, where positions are t5's) and across at equal tokens (aligned)",
    ),
  label_smoothing: share.default(0).describe('share of the target probability spread over the vocabulary'),
  z_loss: notNegative.nullable().default(0).describe('weight of the squared log normaliser in the loss'),
  problem_type: oneOf('regression', 'single_label_classification', 'multi_label_classification')
    .nullable()
    .default(null)
    .describe('loss of the sequence classification head; null: by the labels'),
};

/** What depends on the model type or on another field; null is the same as absent. */
const dependent = {
  num_decoder_layers: layers.nullish().describe('blocks of the decoder; as many as the encoder by default'),
  feed_forward_proj: z
    .string(`"relu", "gated-gelu" and the like`)
    .regex(new RegExp(`^(gated-)?(${activations.join('|')}|swish)$`), `[gated-]${activations.join('|')}`)
    .nullish()
    .describe('activation: relu, gated-gelu and the like'),
  tie_word_embeddings: flag.nullish().describe('the head is the input embedding'),
  scale_decoder_outputs: flag.nullish().describe('multiply states by d_model^-1/2 before the head, as tied T5 does'),
  num_labels: size.nullish().describe('classes of a classification head'),
  id2label: z.record(z.string(), z.string()).nullish().describe('names of the classes'),
};

/** The fields above for schemas that embed a model's configuration and refuse unknown keys. */
export const t5ConfigFields = { ...fields, ...dependent };
const schema = z.looseObject(t5ConfigFields);

type Resolved = {
  num_decoder_layers: number;
  feed_forward_proj: string;
  tie_word_embeddings: boolean;
  /** Whether the decoder's states are multiplied by d_model^-1/2 before the head (T5 v1.0). */
  scale_decoder_outputs: boolean;
  per_layer_position_bias: boolean;
  num_labels: number;
  id2label: Record<string, string> | null | undefined;
  z_loss: number;
};

/** A complete configuration; made by `t5Config`. */
export type T5Config = Readonly<
  Omit<z.output<z.ZodObject<typeof fields>>, keyof Resolved> & Resolved & { [kept: string]: unknown }
>;
/** What users write: any part of it. */
export type T5ConfigInput = z.input<typeof schema>;

/**
 * Checks a configuration and fills in what it leaves out.
 * @param source where it came from, for the error's text
 * @throws UsageError naming the field, its value and what was expected
 */
export function t5Config(input: unknown, source = 'config'): T5Config {
  const parsed = schema.safeParse(input ?? {});
  if (!parsed.success) {
    const { path, message } = parsed.error.issues[0]!;
    const value = path.reduce<unknown>((v, key) => (v as Record<PropertyKey, unknown>)?.[key], input);
    const name = path.length ? `${source}: ${path.map(String).join('.')}` : source;
    throw new UsageError(`${name} is ${JSON.stringify(value)}, expected ${path.length ? message : 'an object'}`);
  }
  const c = parsed.data;
  const isT5 = c.model_type === 't5';
  const tied = c.tie_word_embeddings ?? isT5;
  const config: T5Config = {
    ...c,
    num_decoder_layers: c.num_decoder_layers ?? c.num_layers,
    feed_forward_proj: c.feed_forward_proj ?? (isT5 ? 'relu' : 'gated-gelu'),
    tie_word_embeddings: tied,
    scale_decoder_outputs: c.scale_decoder_outputs ?? (tied && !isUnscaledMT5(c)),
    per_layer_position_bias: c.per_layer_position_bias ?? c.model_type === 'umt5',
    num_labels: c.num_labels ?? (c.id2label ? Object.keys(c.id2label).length : 2),
    id2label: c.id2label,
    z_loss: c.z_loss ?? 0,
  };
  checkTogether(config, source);
  return config;
}

/** Major version of the transformers that wrote a configuration, 0 if none did. */
export function transformersMajor(config: object): number {
  const { transformers_version } = config as { transformers_version?: unknown };
  return Number.parseInt(String(transformers_version), 10) || 0;
}

/** transformers 5 writes "tied" into every mT5's configuration, and never scales what goes to the head. */
const isUnscaledMT5 = (c: { model_type: string }) => c.model_type === 'mt5' && transformersMajor(c) >= 5;

function checkTogether(c: T5Config, source: string): void {
  const fail = (what: string) => {
    throw new UsageError(`${source}: ${what}`);
  };
  for (const name of ['pad_token_id', 'eos_token_id', 'decoder_start_token_id'] as const)
    if (c[name] >= c.vocab_size) fail(`${name} is ${c[name]}, expected less than vocab_size ${c.vocab_size}`);
  const rotating = rotaryDims(c);
  if (c.position_encoding_type === 'rope' && (rotating < 2 || rotating % 2))
    fail(
      `rotary_emb_fraction ${c.rotary_emb_fraction} of d_kv ${c.d_kv} rotates ${rotating} values, expected an even number`,
    );
  if (c.position_encoding_type === 'alibi' && c.alibi_mode === 'asymmetric' && c.num_heads % 2)
    fail(`alibi_mode "asymmetric" needs an even num_heads, got ${c.num_heads}`);
  if (c.position_encoding_type === 't5') {
    const buckets = c.relative_attention_num_buckets;
    if (buckets % 2 || buckets < 4)
      fail(`relative_attention_num_buckets is ${buckets}, expected an even number from 4`);
    if (c.relative_attention_max_distance <= buckets / 2)
      fail(
        `relative_attention_max_distance is ${c.relative_attention_max_distance}, ` +
          `expected more than half of relative_attention_num_buckets ${buckets}`,
      );
  }
  if (c.tie_word_embeddings && !c.share_input_embeddings)
    fail('tie_word_embeddings is true, but share_input_embeddings is false: which embedding is the head?');
  if (c.id2label && Object.keys(c.id2label).length !== c.num_labels)
    fail(`num_labels is ${c.num_labels}, but id2label has ${Object.keys(c.id2label).length} entries`);
}

/** How many values of each head RoPE rotates. */
export const rotaryDims = (c: T5Config): number => Math.floor(c.d_kv * c.rotary_emb_fraction);

/** Whether the feed-forward layer is gated, and its activation. "gated-gelu" means the tanh form, as in HF. */
export function feedForwardKind(c: T5Config): { gated: boolean; activation: ActivationKind } {
  const gated = c.feed_forward_proj.startsWith('gated-');
  const name = c.feed_forward_proj.replace('gated-', '').replace('swish', 'silu') as ActivationKind;
  return { gated, activation: gated && name === 'gelu' ? 'gelu_new' : name };
}

/** Whether Hugging Face's class for the model type computes the same. */
const isPlain = (c: T5Config) =>
  c.position_encoding_type === 't5' &&
  c.attention_scale === 1 &&
  c.per_layer_position_bias === (c.model_type === 'umt5');

/** Fields that Hugging Face's T5 does not have: they are written only when they say something. */
const ours = Object.keys(fields).slice(Object.keys(fields).indexOf('share_input_embeddings'));

/** The object that config.json holds: Hugging Face's derived fields are refreshed. */
export function savedConfig(c: T5Config): Record<string, unknown> {
  const { gated, activation } = feedForwardKind(c);
  const defaults = t5Config({}) as Record<string, unknown>;
  const { num_labels, per_layer_position_bias, id2label, ...rest } = c;
  const saved: Record<string, unknown> = {};
  for (const [key, value] of Object.entries(rest))
    if (!ours.includes(key) || value !== defaults[key]) saved[key] = value;
  const model_type = isPlain(c) ? c.model_type : 'fat5';
  if (per_layer_position_bias !== (model_type === 'umt5')) saved.per_layer_position_bias = per_layer_position_bias;
  if (id2label) {
    saved.id2label = id2label;
    saved.label2id = Object.fromEntries(Object.entries(id2label).map(([i, label]) => [label, Number(i)]));
  } else if (num_labels !== defaults.num_labels) saved.num_labels = num_labels;
  return { ...saved, model_type, dense_act_fn: activation, is_gated_act: gated };
}

/** Fields that are not whole numbers by nature: transformers refuses "1" where it expects "1.0". */
const fractions = [
  'dropout_rate',
  'classifier_dropout',
  'layer_norm_epsilon',
  'initializer_factor',
  'attention_scale',
  'rotary_emb_fraction',
  'label_smoothing',
  'z_loss',
];

/** The text of config.json. */
export function configText(config: Record<string, unknown>): string {
  const text = JSON.stringify(config, null, 2);
  const whole = new RegExp(`^(  "(?:${fractions.join('|')})": -?\\d+)(?=,?$)`, 'gm');
  return `${text.replace(whole, '$1.0')}\n`;
}
