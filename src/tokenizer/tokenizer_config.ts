/** tokenizer_config.json and special_tokens_map.json: what a tokenizer's tokens are called, and its manners. */
import { FormatError } from '../util/errors.ts';
import {
  decimal,
  flag,
  integer,
  listOf,
  Mismatch,
  nullish,
  object,
  oneOf,
  recordOf,
  type Shape,
  type Shaped,
  text,
} from '../util/json_shape.ts';
import { addedTokenFlags } from './schema.ts';

/** Which token plays which part. */
export interface SpecialTokens {
  bos_token?: string;
  eos_token?: string;
  unk_token?: string;
  sep_token?: string;
  pad_token?: string;
  cls_token?: string;
  mask_token?: string;
}

/** What the tokens are called where no file says it. */
const usualNames: Required<SpecialTokens> = {
  bos_token: '<s>',
  eos_token: '</s>',
  unk_token: '<unk>',
  sep_token: '<sep>',
  pad_token: '<pad>',
  cls_token: '<cls>',
  mask_token: '<mask>',
};
export const specialParts = Object.keys(usualNames) as (keyof SpecialTokens)[];

/** As its text, or as an object with it; null: there is none. */
const token: Shape<string | null> = (value) =>
  typeof value === 'string' || value === null ? value : named(value).content;
const named = object({ content: text });
const part = (value: unknown) => (value === undefined ? undefined : token(value));
const side = oneOf('left', 'right');
const tokens = nullish(listOf(token));
/** transformers 5 writes an object of names here. */
const listedTokens = (value: unknown) => (Array.isArray(value) ? tokens(value) : null);

const config = object({
  tokenizer_class: nullish(text),
  bos_token: part,
  eos_token: part,
  unk_token: part,
  sep_token: part,
  pad_token: part,
  cls_token: part,
  mask_token: part,
  additional_special_tokens: tokens,
  extra_special_tokens: listedTokens,
  added_tokens_decoder: nullish(recordOf(addedTokenFlags)),
  clean_up_tokenization_spaces: nullish(flag),
  model_max_length: nullish(decimal(0, Number.POSITIVE_INFINITY)),
  padding_side: nullish(side),
  truncation_side: nullish(side),
  model_input_names: nullish(listOf(text)),
  /** T5: tokens <extra_id_0> … behind the pieces of a spiece.model. */
  extra_ids: nullish(integer(0, 4096)),
  /** T5: text behind a special token gets a space in front, as before transformers 4.31. */
  legacy: nullish(flag),
  add_prefix_space: nullish(flag),
});

export type TokenizerConfig = Shaped<typeof config>;
export const noConfig: TokenizerConfig = {};

/**
 * The fields of a tokenizer_config.json, with those of a special_tokens_map.json that it lacks.
 * @throws FormatError naming file and field
 */
export function parseTokenizerConfig(text: string, path: string): TokenizerConfig {
  let document: unknown;
  try {
    document = JSON.parse(text);
  } catch (cause) {
    throw new FormatError(`${path}: not JSON: ${(cause as Error).message}`, { cause });
  }
  try {
    return config(document);
  } catch (cause) {
    if (!(cause instanceof Mismatch)) throw cause;
    throw new FormatError(
      `${path}: ${cause.path.join('.') || 'file'}: ${cause.message}, expected the fields of a tokenizer_config.json`,
      { cause },
    );
  }
}

/** The parts that a configuration names, or else the tokens of the usual names. */
export function specialTokens(config: TokenizerConfig, known: (token: string) => boolean): SpecialTokens {
  const found: SpecialTokens = {};
  for (const part of specialParts) {
    const token = part in config ? config[part] : usualNames[part];
    if (typeof token === 'string' && known(token)) found[part] = token;
  }
  return found;
}
