/** The parts of a tokenizer.json as Hugging Face tokenizers write them: one schema each, their types derived. */
import { z } from 'zod';

/** Ids from here on are taken for damage, not for a vocabulary. */
export const ID_LIMIT = 1 << 22;

const id = z
  .int()
  .min(0)
  .max(ID_LIMIT - 1);
const count = z.int().min(0).max(0xffffffff);
const character = z.string().refine((text) => [...text].length === 1, 'expected one character');
const pattern = z.union([z.object({ String: z.string() }), z.object({ Regex: z.string() })]);
/** A part that has nothing to set. */
const plain = <T extends string>(type: T) => z.object({ type: z.literal(type) });

export const addedToken = z.object({
  id,
  content: z.string().min(1),
  single_word: z.boolean().default(false),
  lstrip: z.boolean().default(false),
  rstrip: z.boolean().default(false),
  normalized: z.boolean().default(true),
  special: z.boolean().default(false),
});

const replace = z.object({ type: z.literal('Replace'), pattern, content: z.string() });

export const normalizer = z.discriminatedUnion('type', [
  plain('NFC'),
  plain('NFD'),
  plain('NFKC'),
  plain('NFKD'),
  plain('Nmt'),
  plain('Lowercase'),
  plain('StripAccents'),
  plain('ByteLevel'),
  z.object({ type: z.literal('Strip'), strip_left: z.boolean(), strip_right: z.boolean() }),
  replace,
  z.object({ type: z.literal('Prepend'), prepend: z.string() }),
  /** Base64; umT5's files have an empty one. */
  z.object({ type: z.literal('Precompiled'), precompiled_charsmap: z.string().nullish() }),
  z.object({
    type: z.literal('BertNormalizer'),
    clean_text: z.boolean().default(true),
    handle_chinese_chars: z.boolean().default(true),
    strip_accents: z.boolean().nullish(),
    lowercase: z.boolean().default(true),
  }),
  z.object({
    type: z.literal('Sequence'),
    get normalizers(): z.ZodArray<typeof normalizer> {
      return z.array(normalizer);
    },
  }),
]);

const behavior = z.enum(['Removed', 'Isolated', 'MergedWithPrevious', 'MergedWithNext', 'Contiguous']);
const byteLevel = z.object({
  type: z.literal('ByteLevel'),
  add_prefix_space: z.boolean().default(true),
  trim_offsets: z.boolean().default(true),
  use_regex: z.boolean().default(true),
});
const metaspace = z.object({
  type: z.literal('Metaspace'),
  replacement: character,
  /** Older files: false is `prepend_scheme` never. */
  add_prefix_space: z.boolean().optional(),
  prepend_scheme: z.enum(['first', 'never', 'always']).optional(),
  split: z.boolean().default(true),
});

export const preTokenizer = z.discriminatedUnion('type', [
  byteLevel,
  metaspace,
  plain('Whitespace'),
  plain('WhitespaceSplit'),
  plain('BertPreTokenizer'),
  plain('UnicodeScripts'),
  z.object({ type: z.literal('Punctuation'), behavior: behavior.default('Isolated') }),
  z.object({ type: z.literal('Digits'), individual_digits: z.boolean() }),
  z.object({ type: z.literal('CharDelimiterSplit'), delimiter: character }),
  z.object({ type: z.literal('FixedLength'), length: z.int().min(1).default(5) }),
  z.object({ type: z.literal('Split'), pattern, behavior, invert: z.boolean() }),
  z.object({
    type: z.literal('Sequence'),
    get pretokenizers(): z.ZodArray<typeof preTokenizer> {
      return z.array(preTokenizer);
    },
  }),
]);

const templatePiece = z.union([
  z.object({ SpecialToken: z.object({ id: z.string(), type_id: count.default(0) }) }),
  z.object({ Sequence: z.object({ id: z.enum(['A', 'B']), type_id: count.default(0) }) }),
]);
const tokenWithId = z.tuple([z.string(), id]);

export const postProcessor = z.discriminatedUnion('type', [
  z.object({
    type: z.literal('TemplateProcessing'),
    single: z.array(templatePiece),
    pair: z.array(templatePiece).default([]),
    special_tokens: z.record(z.string(), z.object({ id: z.string(), ids: z.array(id), tokens: z.array(z.string()) })),
  }),
  z.object({ type: z.literal('BertProcessing'), sep: tokenWithId, cls: tokenWithId }),
  z.object({
    type: z.literal('RobertaProcessing'),
    sep: tokenWithId,
    cls: tokenWithId,
    trim_offsets: z.boolean().default(true),
    add_prefix_space: z.boolean().default(true),
  }),
  byteLevel,
  z.object({
    type: z.literal('Sequence'),
    get processors(): z.ZodArray<typeof postProcessor> {
      return z.array(postProcessor);
    },
  }),
]);

export const decoder = z.discriminatedUnion('type', [
  byteLevel,
  metaspace,
  plain('ByteFallback'),
  plain('Fuse'),
  replace,
  z.object({ type: z.literal('WordPiece'), prefix: z.string(), cleanup: z.boolean() }),
  z.object({ type: z.literal('BPEDecoder'), suffix: z.string() }),
  z.object({ type: z.literal('Strip'), content: character, start: count, stop: count }),
  z.object({
    type: z.literal('CTC'),
    pad_token: z.string(),
    word_delimiter_token: z.string(),
    cleanup: z.boolean(),
  }),
  z.object({
    type: z.literal('Sequence'),
    get decoders(): z.ZodArray<typeof decoder> {
      return z.array(decoder);
    },
  }),
]);

const side = z.enum(['Left', 'Right']);

export const truncation = z.object({
  direction: side.default('Right'),
  max_length: count,
  strategy: z.enum(['LongestFirst', 'OnlyFirst', 'OnlySecond']),
  stride: count,
});

export const padding = z.object({
  strategy: z.union([z.literal('BatchLongest'), z.object({ Fixed: count })]),
  direction: side,
  pad_to_multiple_of: count.nullish(),
  pad_id: id,
  pad_type_id: count,
  pad_token: z.string(),
});

/** Vocabularies and merges have too many entries for a schema: they are checked by hand (vocabulary.ts). */
const vocabulary = z.custom<Record<string, unknown>>(
  (v) => typeof v === 'object' && v !== null && !Array.isArray(v),
  'expected an object',
);
const list = z.custom<unknown[]>(Array.isArray, 'expected an array');

export const model = z.discriminatedUnion('type', [
  z.object({
    type: z.literal('BPE'),
    dropout: z.number().min(0).max(1).nullish(),
    unk_token: z.string().nullish(),
    continuing_subword_prefix: z.string().nullish(),
    end_of_word_suffix: z.string().nullish(),
    fuse_unk: z.boolean().nullish(),
    byte_fallback: z.boolean().nullish(),
    ignore_merges: z.boolean().nullish(),
    vocab: vocabulary,
    merges: list,
  }),
  z.object({
    type: z.literal('Unigram'),
    unk_id: id.nullish(),
    byte_fallback: z.boolean().nullish(),
    vocab: list,
  }),
  z.object({
    type: z.literal('WordPiece'),
    unk_token: z.string().default('[UNK]'),
    continuing_subword_prefix: z.string().default('##'),
    max_input_chars_per_word: count.default(100),
    vocab: vocabulary,
  }),
  z.object({ type: z.literal('WordLevel'), unk_token: z.string().default('<unk>'), vocab: vocabulary }),
]);

export const tokenizerJson = z.object({
  truncation: truncation.nullish(),
  padding: padding.nullish(),
  added_tokens: z.array(addedToken).default([]),
  normalizer: normalizer.nullish(),
  pre_tokenizer: preTokenizer.nullish(),
  post_processor: postProcessor.nullish(),
  decoder: decoder.nullish(),
  model,
});

export type AddedToken = z.infer<typeof addedToken>;
export type Normalizer = z.infer<typeof normalizer>;
export type PreTokenizer = z.infer<typeof preTokenizer>;
export type SplitBehavior = z.infer<typeof behavior>;
export type Pattern = z.infer<typeof pattern>;
export type PostProcessor = z.infer<typeof postProcessor>;
export type Decoder = z.infer<typeof decoder>;
export type Metaspace = z.infer<typeof metaspace>;
export type Truncation = z.infer<typeof truncation>;
export type Padding = z.infer<typeof padding>;
