/** tokenizer_config.json and special_tokens_map.json: what a tokenizer's tokens are called, and its manners. */
import { z } from 'zod';
import { FormatError } from '../util/errors.ts';
import { addedToken } from './schema.ts';

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
export const usualNames: Required<SpecialTokens> = {
  bos_token: '<s>',
  eos_token: '</s>',
  unk_token: '<unk>',
  sep_token: '<sep>',
  pad_token: '<pad>',
  cls_token: '<cls>',
  mask_token: '<mask>',
};
export const specialParts = Object.keys(usualNames) as (keyof SpecialTokens)[];

const token = z
  .union([z.string(), z.object({ content: z.string() }), z.null()])
  .transform((value) => (typeof value === 'object' && value !== null ? value.content : value));
const side = z.enum(['left', 'right']);

const schema = z.object({
  tokenizer_class: z.string().nullish(),
  bos_token: token.optional(),
  eos_token: token.optional(),
  unk_token: token.optional(),
  sep_token: token.optional(),
  pad_token: token.optional(),
  cls_token: token.optional(),
  mask_token: token.optional(),
  additional_special_tokens: z.array(token).nullish(),
  extra_special_tokens: z.array(token).nullish().catch(null),
  added_tokens_decoder: z.record(z.string(), addedToken.omit({ id: true })).nullish(),
  clean_up_tokenization_spaces: z.boolean().nullish(),
  model_max_length: z.number().min(0).nullish(),
  padding_side: side.nullish(),
  truncation_side: side.nullish(),
  model_input_names: z.array(z.string()).nullish(),
  /** T5: tokens <extra_id_0> … behind the pieces of a spiece.model. */
  extra_ids: z.int().min(0).max(4096).nullish(),
  /** T5: text behind a special token gets a space in front, as before transformers 4.31. */
  legacy: z.boolean().nullish(),
  add_prefix_space: z.boolean().nullish(),
});

export type TokenizerConfig = z.infer<typeof schema>;
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
  const parsed = schema.safeParse(document);
  if (parsed.success) return parsed.data;
  const issue = parsed.error.issues[0]!;
  throw new FormatError(
    `${path}: ${issue.path.join('.') || 'file'}: ${issue.message}, expected the fields of a tokenizer_config.json`,
  );
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
