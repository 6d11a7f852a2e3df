/** The C interface of libfat5-text's tokenizer: encoders, vocabularies and trainings, freed with the objects that own them. */
import { BackendError } from '../util/errors.ts';
import { type NativeFunction, openLibrary } from '../util/native.ts';

const prototypes = {
  create: 'uint64_t fat5_tokenizer_create()',
  free: 'int fat5_tokenizer_free(uint64_t handle)',
  bpe: 'int64_t fat5_tokenizer_bpe(uint64_t handle, uint64_t vocabulary, const int32_t *options)',
  rules: 'int64_t fat5_tokenizer_rules(uint64_t handle, const int32_t *rules, uint32_t count, int32_t prefixSpace)',
  added:
    'int64_t fat5_tokenizer_added(uint64_t handle, const uint8_t *text, uint64_t bytes, const int32_t *units, const int32_t *ids, const int32_t *flags, const int32_t *normalized, uint32_t count)',
  template:
    'int64_t fat5_tokenizer_template(uint64_t handle, const int32_t *prefix, uint32_t prefixCount, const int32_t *suffix, uint32_t suffixCount)',
  encode:
    'int64_t fat5_tokenizer_encode(uint64_t handle, const uint8_t *bytes, const uint32_t *offsets, uint32_t count, int32_t flags, int32_t threads, uint32_t *idOffsets, uint8_t *declined)',
  ids: 'int64_t fat5_tokenizer_ids(uint64_t handle, int32_t *ids)',
  unigram:
    'int64_t fat5_tokenizer_unigram(uint64_t handle, uint64_t vocabulary, const double *scores, int32_t unknown, double unknownScore, const uint8_t *unknownPiece, uint32_t unknownBytes, const int32_t *byteIds)',
  spBpe: 'int64_t fat5_tokenizer_sp_bpe(uint64_t handle, uint64_t vocabulary, int32_t unknown, const int32_t *byteIds)',
  spNormalizer:
    'int64_t fat5_tokenizer_sp_normalizer(uint64_t handle, uint64_t vocabulary, const uint8_t *charsmap, uint64_t bytes, const int32_t *options)',
  hfNormalizer:
    'int64_t fat5_tokenizer_hf_normalizer(uint64_t handle, uint64_t vocabulary, const uint8_t *charsmap, uint64_t bytes, const int32_t *options)',
  createVocabulary: 'uint64_t fat5_vocabulary_create()',
  freeVocabulary: 'int fat5_vocabulary_free(uint64_t handle)',
  readJson: 'int64_t fat5_vocabulary_json(uint64_t handle, const uint8_t *text, uint64_t bytes, uint32_t *spans)',
  readSentencePiece:
    'int64_t fat5_vocabulary_sentencepiece(uint64_t handle, const uint8_t *model, uint64_t bytes, uint32_t *spans)',
  pieces:
    'int64_t fat5_vocabulary_pieces(uint64_t handle, const uint8_t *text, uint64_t bytes, const int32_t *units, const int32_t *ids, const double *scores, const uint8_t *types, uint32_t count)',
  merges:
    'int64_t fat5_vocabulary_merges(uint64_t handle, const uint8_t *text, uint64_t bytes, const int32_t *units, uint32_t count)',
  sizes: 'int64_t fat5_vocabulary_sizes(uint64_t handle, uint32_t *sizes)',
  texts: 'int64_t fat5_vocabulary_texts(uint64_t handle, uint8_t *text, uint32_t *starts, uint32_t *lengths)',
  scores: 'int64_t fat5_vocabulary_scores(uint64_t handle, double *scores, uint8_t *types)',
  joins: 'int64_t fat5_vocabulary_joins(uint64_t handle, int32_t *pairs)',
  pieceId: 'int64_t fat5_vocabulary_id(uint64_t handle, const uint8_t *piece, uint32_t bytes)',
  createTraining: 'uint64_t fat5_training_create(const int32_t *rules, uint32_t count, uint32_t cuts)',
  freeTraining: 'int fat5_training_free(uint64_t handle)',
  normalization: 'int64_t fat5_training_rules(uint64_t handle, const uint8_t *charsmap, uint64_t bytes)',
  symbol: 'int64_t fat5_training_symbol(uint64_t handle, const uint8_t *symbol, uint64_t bytes)',
  feed: 'int64_t fat5_training_feed(uint64_t handle, const uint8_t *bytes, const uint32_t *offsets, uint32_t count, int32_t threads)',
  prepareBpe:
    'int64_t fat5_bpe_prepare(uint64_t handle, double characterCoverage, uint32_t limitAlphabet, uint32_t room, double minFrequency, uint32_t maxTokenLength, double *statistics)',
  learnBpe: 'int64_t fat5_bpe_learn(uint64_t handle, uint32_t count, uint32_t *pieces)',
  resultBpe: 'int64_t fat5_bpe_result(uint64_t handle, uint32_t *alphabet, int32_t *merges)',
  prepareUnigram:
    'int64_t fat5_unigram_prepare(uint64_t handle, double characterCoverage, double minFrequency, double shrinkingFactor, const uint32_t *sizes, int32_t threads, double *statistics)',
  roundUnigram: 'int64_t fat5_unigram_round(uint64_t handle, uint32_t *pieces)',
  resultUnigram:
    'int64_t fat5_unigram_result(uint64_t handle, uint32_t *characters, uint32_t *lengths, double *scores)',
} as const;

type Library = Record<keyof typeof prototypes, NativeFunction>;
let library: Library | undefined;

/** @throws BackendError where there is none */
export function tokenizerLibrary(): Library {
  if (!library) {
    const opened = openLibrary('fat5-text');
    library = Object.fromEntries(
      Object.entries(prototypes).map(([name, prototype]) => [name, opened.bind(prototype)]),
    ) as Library;
  }
  return library;
}

export function hasTokenizerLibrary(): boolean {
  try {
    tokenizerLibrary();
    return true;
  } catch (error) {
    if (error instanceof BackendError) return false;
    throw error;
  }
}

/** enum Problem of boundary.h. */
const OUT_OF_MEMORY = -1;
export const BAD_STRINGS = -2;
export const MISSING_PIECE = -3;
export const DECLINED = -4;

/** The result of a call that only memory can make fail. @throws BackendError */
export function checked(call: string, result: number): number {
  if (result >= 0) return result;
  throw new BackendError(`${call}: ${result === OUT_OF_MEMORY ? 'out of memory' : `failed with code ${result}`}`);
}

const utf8 = new TextEncoder();

/** Strings as one UTF-8 text and the UTF-16 length of each: far cheaper than encoding them one by one. */
export function packStrings(strings: readonly string[]): { text: Uint8Array; units: Int32Array } {
  const units = new Int32Array(strings.length);
  for (let i = 0; i < strings.length; i++) units[i] = strings[i]!.length;
  return { text: utf8.encode(strings.join('')), units };
}
