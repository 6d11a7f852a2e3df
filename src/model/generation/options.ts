/**
 * The settings of `generate`: names, defaults and meaning are those of transformers' GenerationConfig. The table below is
 * their only list: checks, types and docs/generation.md derive from it.
 */
import * as z from 'zod';
import { UsageError } from '../../util/errors.ts';
import { suggestion } from '../../util/suggest.ts';
import { type T5Config, t5ConfigFields } from '../config.ts';

const wholeFrom = (least: number) => {
  const what = `a whole number from ${least}`;
  return z
    .int(what)
    .min(least, what)
    .max(2 ** 31 - 1, what);
};
const id = z.int('a token id, 0 or more').min(0, 'a token id, 0 or more');
const ids = z.array(id, 'an array of token ids');
const idOrIds = z.union([id, ids], 'a token id or an array of them');
const flag = z.boolean('true or false');
const number = z.number('a number');
const positive = z.number('a positive number').gt(0, 'a positive number');
const notNegative = z.number('a number, 0 or more').min(0, 'a number, 0 or more');
const share = z.number('a number from 0 to 1').min(0, 'a number from 0 to 1').max(1, 'a number from 0 to 1');
const shareBelow1 = z.number('a number in [0, 1)').min(0, 'a number in [0, 1)').lt(1, 'a number in [0, 1)');
const phrase = z.array(id, 'arrays of token ids').min(1, 'arrays of at least one token id');
const text = z.string('a text that is not empty').min(1, 'a text that is not empty');

/** What generation_config.json and a call may hold. */
export const generationFields = {
  max_length: wholeFrom(1).describe('tokens of an answer at most, those of the prompt included'),
  max_new_tokens: wholeFrom(1).describe('tokens written at most, whatever max_length says'),
  min_length: wholeFrom(0)
    .default(0)
    .describe('no end before the answer has this many tokens, those of the prompt included'),
  min_new_tokens: wholeFrom(0).describe('no end before this many tokens are written'),
  max_time: positive.describe('seconds after which no further token is begun'),
  stop_strings: z
    .union([text, z.array(text, 'an array of texts')], 'a text or an array of texts')
    .describe('the answer ends with the token that completes one of these'),
  do_sample: flag.default(false).describe('draw tokens at random instead of taking the likeliest'),
  num_beams: wholeFrom(1).default(1).describe('answers followed at the same time; above 1: beam search'),
  num_beam_groups: wholeFrom(1)
    .default(1)
    .describe('groups of beams, each of which avoids the tokens of those before it'),
  diversity_penalty: notNegative
    .default(0)
    .describe("taken from a token's log-probability per beam of earlier groups that has just chosen it"),
  early_stopping: z
    .union([flag, z.literal('never')], 'true, false or "never"')
    .default(false)
    .describe(
      'true: beam search ends as soon as there are num_beams answers; false: when better ones are unlikely; "never": when there cannot be better ones',
    ),
  length_penalty: number
    .default(1)
    .describe('beams are compared by log-probability / length ^ length_penalty: above 0 favours long answers'),
  num_return_sequences: wholeFrom(1).default(1).describe('answers per source: samples, or the best of the beams'),
  temperature: positive
    .default(1)
    .describe('scores are divided by this before drawing: below 1 is safer, above 1 wilder'),
  top_k: wholeFrom(0).default(50).describe('draw from this many of the likeliest tokens; 0: from all'),
  top_p: share.default(1).describe('draw from the fewest tokens whose probabilities add up to this'),
  min_p: share.describe("draw from tokens with at least this share of the likeliest one's probability"),
  typical_p: share
    .default(1)
    .describe('draw from the most typical tokens whose probabilities add up to this (Meister et al. 2022)'),
  epsilon_cutoff: shareBelow1.default(0).describe('draw from tokens of at least this probability'),
  eta_cutoff: shareBelow1
    .default(0)
    .describe('the same, with a bound that falls with the entropy (Hewitt et al. 2022)'),
  repetition_penalty: positive.default(1).describe('above 1: tokens that are there already become less likely'),
  encoder_repetition_penalty: positive.default(1).describe('above 1: tokens of the source become more likely'),
  no_repeat_ngram_size: wholeFrom(0).default(0).describe('no sequence of this many tokens occurs twice'),
  encoder_no_repeat_ngram_size: wholeFrom(0)
    .default(0)
    .describe('no sequence of this many tokens of the source occurs'),
  bad_words_ids: z.array(phrase, 'an array of arrays of token ids').describe('sequences of tokens that may not occur'),
  sequence_bias: z
    .array(z.tuple([phrase, number], 'pairs [ids, number]'), 'an array of pairs [ids, number]')
    .describe('pairs of a sequence and what is added to the score of the token that completes it'),
  suppress_tokens: ids.describe('tokens that are never written'),
  begin_suppress_tokens: ids.describe('tokens that are not written first'),
  forced_bos_token_id: id.describe('the token after the start token'),
  forced_eos_token_id: idOrIds.describe('what max_length ends with'),
  exponential_decay_length_penalty: z
    .tuple([wholeFrom(0), positive], 'a pair [start, factor]')
    .describe("[start, factor]: after `start` new tokens the end's score grows by this factor with each token"),
  renormalize_logits: flag.default(false).describe('make the changed scores log-probabilities again'),
  remove_invalid_values: flag.default(false).describe('NaN and infinite scores become numbers'),
  return_dict_in_generate: flag
    .default(false)
    .describe('an object with `sequences` and what is asked for below, instead of the bare ids'),
  output_scores: flag.default(false).describe("also the scores that tokens were chosen by, and beams' final scores"),
  output_logits: flag.default(false).describe("also the model's own scores"),
  pad_token_id: id.describe('what fills up answers that have ended'),
  bos_token_id: id.describe('the start token where there is no decoder_start_token_id'),
  eos_token_id: idOrIds.describe('what ends an answer, one token or several'),
  decoder_start_token_id: id.describe('what an answer starts with'),
  num_assistant_tokens: wholeFrom(1).default(20).describe('tokens that `assistant_model` drafts at a time'),
  assistant_confidence_threshold: share
    .default(0.4)
    .describe('it stops drafting behind a token of which it is less sure than this'),
  num_assistant_tokens_schedule: z
    .enum(['constant', 'heuristic', 'heuristic_transient'], '"constant", "heuristic" or "heuristic_transient"')
    .default('constant')
    .describe('heuristic: two more after a draft that was right, one fewer after others'),
};

type Fields = typeof generationFields;
const schemas = Object.fromEntries(
  Object.entries(generationFields).map(([name, field]) => [
    name,
    (field instanceof z.ZodDefault ? field.unwrap() : field).nullish(),
  ]),
) as unknown as {
  [K in keyof Fields]: z.ZodOptional<z.ZodNullable<Fields[K] extends z.ZodDefault<infer D> ? D : Fields[K]>>;
};

/** Any part of the settings; null: as if there were none. */
export type GenerationConfig = { [K in keyof Fields]?: z.input<(typeof schemas)[K]> };

type Given<K extends keyof Fields> = z.output<Fields[K]>;
type Maybe = {
  [K in keyof Fields as Fields[K] extends z.ZodDefault ? never : K]?: Given<K> | undefined;
};
type Always = { [K in keyof Fields as Fields[K] extends z.ZodDefault ? K : never]: Given<K> };
/** What the decoders read: every default filled in. */
export type Settings = Always &
  Maybe & {
    eos: readonly number[];
    pad_token_id: number;
    decoder_start_token_id: number;
  };

/** @throws UsageError naming the field, its value and what was expected */
export function checkGenerationConfig(input: object, source: string): GenerationConfig {
  const config: Record<string, unknown> = {};
  for (const [name, value] of Object.entries(input)) {
    const schema = schemas[name as keyof Fields];
    if (!schema || value === undefined) continue;
    const parsed = schema.safeParse(value);
    if (!parsed.success) {
      const { path, message } = parsed.error.issues[0]!;
      const where = path.length ? ` (${path.map((key) => JSON.stringify(key)).join(', ')})` : '';
      throw new UsageError(`${source}: ${name} is ${JSON.stringify(value)}${where}, expected ${message}`);
    }
    config[name] = parsed.data;
  }
  return config as GenerationConfig;
}

/** Settings that older checkpoints have in config.json; values that are defaults say nothing. @throws UsageError */
export function legacyGenerationConfig(c: T5Config, source: string): GenerationConfig {
  const says = Object.entries(checkGenerationConfig(c, source)).filter(([name, value]) => {
    const field = generationFields[name as keyof Fields];
    const isDefault = field instanceof z.ZodDefault && field.def.defaultValue === value;
    return !(isDefault || value === null || name in t5ConfigFields || (name === 'max_length' && value === 20));
  });
  return Object.fromEntries(says);
}

/** @throws UsageError for a name that is no setting nor one of `others`, with the nearest name */
export function refuseUnknown(input: object, others: readonly string[]): void {
  const known = [...Object.keys(generationFields), ...others];
  for (const name of Object.keys(input))
    if (!known.includes(name)) throw new UsageError(`generate: unknown option ${name}, ${suggestion(name, known)}`);
}

/** Settings of a call: its own, then the model's, then the library's defaults. @throws UsageError */
export function settingsOf(call: GenerationConfig, model: GenerationConfig, c: T5Config): Settings {
  const merged: Record<string, unknown> = {};
  for (const [name, field] of Object.entries(generationFields)) {
    const key = name as keyof Fields;
    const value = call[key] !== undefined ? call[key] : model[key];
    merged[name] = value ?? (field instanceof z.ZodDefault ? field.def.defaultValue : undefined);
  }
  const s = merged as Always & Maybe;
  const ended = call.eos_token_id !== undefined ? call.eos_token_id : (model.eos_token_id ?? c.eos_token_id);
  const eos = ended === null ? [] : [ended].flat();
  return {
    ...s,
    eos,
    pad_token_id: s.pad_token_id ?? c.pad_token_id,
    decoder_start_token_id: s.decoder_start_token_id ?? s.bos_token_id ?? c.decoder_start_token_id,
  };
}

/** Settings with the lengths that hold for a prompt of `prompt` tokens. @throws UsageError for impossible combinations */
export function withLengths(s: Settings, prompt: number): Settings & { max_length: number } {
  const max_length = s.max_new_tokens !== undefined ? prompt + s.max_new_tokens : (s.max_length ?? prompt + 20);
  const min_length = s.min_new_tokens !== undefined ? prompt + s.min_new_tokens : s.min_length;
  if (max_length <= prompt)
    throw new UsageError(
      `generate: max_length is ${max_length}, expected more than the ${prompt} tokens of the prompt (or set max_new_tokens)`,
    );
  if (min_length > max_length)
    throw new UsageError(`generate: the shortest answer is ${min_length} tokens, but the longest is ${max_length}`);
  return { ...s, max_length, min_length };
}

/** @throws UsageError for settings that contradict each other or the vocabulary */
export function checkTogether(s: Settings, c: T5Config): void {
  const fail = (what: string) => {
    throw new UsageError(`generate: ${what}`);
  };
  const { num_beams, num_beam_groups: groups, num_return_sequences: wanted } = s;
  if (num_beams > 1 && wanted > num_beams)
    fail(`num_return_sequences is ${wanted}, expected at most num_beams ${num_beams}`);
  if (num_beams === 1 && !s.do_sample && wanted > 1)
    fail(`num_return_sequences is ${wanted}, but greedy decoding has one answer: set num_beams or do_sample`);
  if (num_beams % groups) fail(`num_beam_groups is ${groups}, expected a divisor of num_beams ${num_beams}`);
  if (groups > 1 && s.do_sample) fail('num_beam_groups is above 1, but do_sample is true: groups are searched');
  if (s.diversity_penalty > 0 && groups === 1)
    fail(`diversity_penalty is ${s.diversity_penalty}, but num_beam_groups is 1: there is nothing to differ from`);
  for (const [name, forced] of Object.entries({ bos: s.forced_bos_token_id, eos: s.forced_eos_token_id }))
    if (forced !== undefined && [forced].flat().every((token) => s.suppress_tokens?.includes(token)))
      fail(`forced_${name}_token_id is ${JSON.stringify(forced)}, but suppress_tokens forbids it`);
  const tokens: Record<string, readonly number[]> = {
    eos_token_id: s.eos,
    pad_token_id: [s.pad_token_id],
    decoder_start_token_id: [s.decoder_start_token_id],
    bad_words_ids: s.bad_words_ids?.flat() ?? [],
    sequence_bias: s.sequence_bias?.flatMap(([sequence]) => sequence) ?? [],
    suppress_tokens: s.suppress_tokens ?? [],
    begin_suppress_tokens: s.begin_suppress_tokens ?? [],
    forced_bos_token_id: [s.forced_bos_token_id ?? []].flat(),
    forced_eos_token_id: [s.forced_eos_token_id ?? []].flat(),
  };
  for (const [name, list] of Object.entries(tokens))
    for (const token of list)
      if (token >= c.vocab_size) fail(`${name} has ${token}, expected ids below vocab_size ${c.vocab_size}`);
}
