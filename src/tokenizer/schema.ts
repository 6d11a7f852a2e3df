/** The parts of a tokenizer.json as Hugging Face tokenizers write them: one shape each, their types derived. */
import {
  anyList,
  anyObject,
  decimal,
  either,
  flag,
  integer,
  listOf,
  nonEmptyText,
  nullish,
  object,
  oneOf,
  optional,
  pairOf,
  recordOf,
  type Shape,
  type Shaped,
  tagged,
  text,
  where,
  withDefault,
} from '../util/json_shape.ts';

/** Ids from here on are taken for damage, not for a vocabulary. */
export const ID_LIMIT = 1 << 22;

const id = integer(0, ID_LIMIT - 1);
const count = integer(0, 0xffffffff);
const yes = withDefault(flag, true);
const no = withDefault(flag, false);
const character = where(text, 'one character', (value) => [...value].length === 1);
const pattern = either(object({ String: text }), object({ Regex: text }));
/** A part that has nothing to set. */
const plain = object({});

const flags = { content: nonEmptyText, single_word: no, lstrip: no, rstrip: no, normalized: yes, special: no };
const addedToken = object({ id, ...flags });
/** As in tokenizer_config.json, where ids are keys. */
export const addedTokenFlags = object(flags);

const replace = object({ pattern, content: text });

const normalizers = {
  NFC: plain,
  NFD: plain,
  NFKC: plain,
  NFKD: plain,
  Nmt: plain,
  Lowercase: plain,
  StripAccents: plain,
  ByteLevel: plain,
  Strip: object({ strip_left: flag, strip_right: flag }),
  Replace: replace,
  Prepend: object({ prepend: text }),
  /** Base64; umT5's files have an empty one. */
  Precompiled: object({ precompiled_charsmap: nullish(text) }),
  BertNormalizer: object({
    clean_text: yes,
    handle_chinese_chars: yes,
    strip_accents: nullish(flag),
    lowercase: yes,
  }),
};
export type Normalizer =
  | Shaped<ReturnType<typeof tagged<typeof normalizers>>>
  | { type: 'Sequence'; normalizers: Normalizer[] };
const normalizer: Shape<Normalizer> = (value) => anyNormalizer(value);
const anyNormalizer = tagged({ ...normalizers, Sequence: object({ normalizers: listOf(normalizer) }) });

const behavior = oneOf('Removed', 'Isolated', 'MergedWithPrevious', 'MergedWithNext', 'Contiguous');
const byteLevel = object({ add_prefix_space: yes, trim_offsets: yes, use_regex: yes });
const metaspace = object({
  replacement: character,
  /** Older files: false is `prepend_scheme` never. */
  add_prefix_space: optional(flag),
  prepend_scheme: optional(oneOf('first', 'never', 'always')),
  split: yes,
});

const preTokenizers = {
  ByteLevel: byteLevel,
  Metaspace: metaspace,
  Whitespace: plain,
  WhitespaceSplit: plain,
  BertPreTokenizer: plain,
  UnicodeScripts: plain,
  Punctuation: object({ behavior: withDefault(behavior, 'Isolated') }),
  Digits: object({ individual_digits: flag }),
  CharDelimiterSplit: object({ delimiter: character }),
  FixedLength: object({ length: withDefault(integer(1, 0xffffffff), 5) }),
  Split: object({ pattern, behavior, invert: flag }),
};
export type PreTokenizer =
  | Shaped<ReturnType<typeof tagged<typeof preTokenizers>>>
  | { type: 'Sequence'; pretokenizers: PreTokenizer[] };
const preTokenizer: Shape<PreTokenizer> = (value) => anyPreTokenizer(value);
const anyPreTokenizer = tagged({ ...preTokenizers, Sequence: object({ pretokenizers: listOf(preTokenizer) }) });

const type_id = withDefault(count, 0);
const templatePiece = either(
  object({ SpecialToken: object({ id: text, type_id }) }),
  object({ Sequence: object({ id: oneOf('A', 'B'), type_id }) }),
);
const tokenWithId = pairOf(text, id);

const postProcessors = {
  TemplateProcessing: object({
    single: listOf(templatePiece),
    pair: withDefault(listOf(templatePiece), []),
    special_tokens: recordOf(object({ id: text, ids: listOf(id), tokens: listOf(text) })),
  }),
  BertProcessing: object({ sep: tokenWithId, cls: tokenWithId }),
  RobertaProcessing: object({ sep: tokenWithId, cls: tokenWithId, trim_offsets: yes, add_prefix_space: yes }),
  ByteLevel: byteLevel,
};
export type PostProcessor =
  | Shaped<ReturnType<typeof tagged<typeof postProcessors>>>
  | { type: 'Sequence'; processors: PostProcessor[] };
const postProcessor: Shape<PostProcessor> = (value) => anyPostProcessor(value);
const anyPostProcessor = tagged({ ...postProcessors, Sequence: object({ processors: listOf(postProcessor) }) });

const decoders = {
  ByteLevel: byteLevel,
  Metaspace: metaspace,
  ByteFallback: plain,
  Fuse: plain,
  Replace: replace,
  WordPiece: object({ prefix: text, cleanup: flag }),
  BPEDecoder: object({ suffix: text }),
  Strip: object({ content: character, start: count, stop: count }),
  CTC: object({ pad_token: text, word_delimiter_token: text, cleanup: flag }),
};
export type Decoder = Shaped<ReturnType<typeof tagged<typeof decoders>>> | { type: 'Sequence'; decoders: Decoder[] };
const decoder: Shape<Decoder> = (value) => anyDecoder(value);
const anyDecoder = tagged({ ...decoders, Sequence: object({ decoders: listOf(decoder) }) });

const side = oneOf('Left', 'Right');

const truncation = object({
  direction: withDefault(side, 'Right'),
  max_length: count,
  strategy: oneOf('LongestFirst', 'OnlyFirst', 'OnlySecond'),
  stride: count,
});

const padding = object({
  strategy: either(oneOf('BatchLongest'), object({ Fixed: count })),
  direction: side,
  pad_to_multiple_of: nullish(count),
  pad_id: id,
  pad_type_id: count,
  pad_token: text,
});

/** Vocabularies and merges have too many entries for a shape: they are checked by hand (vocabulary.ts). */
const model = tagged({
  BPE: object({
    dropout: nullish(decimal(0, 1)),
    unk_token: nullish(text),
    continuing_subword_prefix: nullish(text),
    end_of_word_suffix: nullish(text),
    fuse_unk: nullish(flag),
    byte_fallback: nullish(flag),
    ignore_merges: nullish(flag),
    vocab: anyObject,
    merges: anyList,
  }),
  Unigram: object({ unk_id: nullish(id), byte_fallback: nullish(flag), vocab: anyList }),
  WordPiece: object({
    unk_token: withDefault(text, '[UNK]'),
    continuing_subword_prefix: withDefault(text, '##'),
    max_input_chars_per_word: withDefault(count, 100),
    vocab: anyObject,
  }),
  WordLevel: object({ unk_token: withDefault(text, '<unk>'), vocab: anyObject }),
});

export const tokenizerJson = object({
  truncation: nullish(truncation),
  padding: nullish(padding),
  added_tokens: withDefault(listOf(addedToken), []),
  normalizer: nullish(normalizer),
  pre_tokenizer: nullish(preTokenizer),
  post_processor: nullish(postProcessor),
  decoder: nullish(decoder),
  model,
});

export type AddedToken = Shaped<typeof addedToken>;
export type SplitBehavior = Shaped<typeof behavior>;
export type Pattern = Shaped<typeof pattern>;
export type Metaspace = Shaped<typeof metaspace>;
export type Truncation = Shaped<typeof truncation>;
export type Padding = Shaped<typeof padding>;
