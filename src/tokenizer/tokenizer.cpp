// C interface of the encoder, for native.ts. Handles are addresses; nothing throws across the boundary.
#include "boundary.h"
#include "encoder.h"
#include "strings.h"
#include "vocabulary.h"
#include <algorithm>

using namespace tokenizer;

namespace {

Encoder &encoder(uint64_t handle) { return *reinterpret_cast<Encoder *>(handle); }
const Vocabulary &vocabularyOf(uint64_t handle) { return *reinterpret_cast<const Vocabulary *>(handle); }

/** Pieces that text can become. */
std::vector<DoubleArray::Key> textKeys(const Vocabulary &vocabulary) {
  std::vector<DoubleArray::Key> keys;
  keys.reserve(vocabulary.pieces.size());
  for (size_t i = 0; i < vocabulary.pieces.size(); i++) {
    const auto &entry = vocabulary.pieces.entry(i);
    const int32_t id = int32_t(entry.value);
    const bool made = vocabulary.types.empty() ? entry.bytes > 0 : vocabulary.isText(id);
    if (made) keys.push_back({vocabulary.pieces.text(entry), entry.bytes, id});
  }
  return keys;
}

void userSymbols(const Vocabulary &vocabulary, DoubleArray &symbols) {
  if (std::find(vocabulary.types.begin(), vocabulary.types.end(), USER_DEFINED) == vocabulary.types.end()) return;
  auto keys = textKeys(vocabulary);
  const auto others = [&](const auto &key) { return vocabulary.types[size_t(key.value)] != USER_DEFINED; };
  keys.erase(std::remove_if(keys.begin(), keys.end(), others), keys.end());
  symbols.build(std::move(keys));
}

} // namespace

/** A new encoder without vocabulary, or 0. */
extern "C" uint64_t fat5_tokenizer_create() { return uint64_t(new (std::nothrow) Encoder); }

extern "C" int fat5_tokenizer_free(uint64_t handle) {
  delete &encoder(handle);
  return 0;
}

/** options as BpeOptions. */
extern "C" int64_t fat5_tokenizer_bpe(uint64_t handle, uint64_t vocabulary, const int32_t *options) {
  return guarded([&] {
    encoder(handle).bpe.open(vocabularyOf(vocabulary), {options[0], options[1], options[2], options[3], options[4]});
    return int64_t(0);
  });
}

/** Pairs kind, option as struct Rule. */
extern "C" int64_t fat5_tokenizer_rules(uint64_t handle, const int32_t *rules, uint32_t count, int32_t prefixSpace) {
  return guarded([&] {
    encoder(handle).prefixSpace = prefixSpace != 0;
    auto &target = encoder(handle).preTokenizer.rules;
    for (uint32_t i = 0; i < count; i++) target.push_back({rules[2 * i], rules[2 * i + 1]});
    return int64_t(0);
  });
}

/** Added tokens with AddedTokenFlag; normalized[i]: looked for after the normalizer. */
extern "C" int64_t fat5_tokenizer_added(uint64_t handle, const uint8_t *text, uint64_t bytes, const int32_t *units,
                                        const int32_t *ids, const int32_t *flags, const int32_t *normalized,
                                        uint32_t count) {
  return guarded([&] {
    Strings strings(text, bytes, units);
    for (uint32_t i = 0; i < count; i++) {
      const auto token = strings.next();
      AddedTokens &tokens = normalized[i] ? encoder(handle).afterNormalizer : encoder(handle).beforeNormalizer;
      tokens.add(token.start, token.bytes, ids[i], flags[i]);
    }
    return int64_t(0);
  });
}

/** Ids before and after one text. */
extern "C" int64_t fat5_tokenizer_template(uint64_t handle, const int32_t *prefix, uint32_t prefixCount,
                                           const int32_t *suffix, uint32_t suffixCount) {
  return guarded([&] {
    encoder(handle).prefix.assign(prefix, prefix + prefixCount);
    encoder(handle).suffix.assign(suffix, suffix + suffixCount);
    return int64_t(0);
  });
}

/**
 * A Unigram vocabulary, of a spiece.model where it has types: then in sentencepiece's arithmetic and with its scores.
 * unknownPiece: the unknown piece's text where it is made from text. byteIds: 256 or null.
 */
extern "C" int64_t fat5_tokenizer_unigram(uint64_t handle, uint64_t vocabulary, const double *scores, int32_t unknown,
                                          double unknownScore, const uint8_t *unknownPiece, uint32_t unknownBytes,
                                          const int32_t *byteIds) {
  return guarded([&] {
    Encoder &e = encoder(handle);
    const Vocabulary &given = vocabularyOf(vocabulary);
    e.model = UNIGRAM;
    Unigram &unigram = e.unigram;
    unigram.scores.assign(scores, scores + given.count);
    unigram.unknown = unknown;
    unigram.unknownScore = unknownScore;
    unigram.unknownPiece.assign(unknownPiece, unknownPiece + unknownBytes);
    unigram.float32 = !given.types.empty();
    if (byteIds) unigram.byteIds.assign(byteIds, byteIds + 256);
    unigram.pieces.build(textKeys(given));
    userSymbols(given, e.spNormalizer.userSymbols);
    return int64_t(0);
  });
}

/** The same for sentencepiece's BPE. */
extern "C" int64_t fat5_tokenizer_sp_bpe(uint64_t handle, uint64_t vocabulary, int32_t unknown, const int32_t *byteIds) {
  return guarded([&] {
    Encoder &e = encoder(handle);
    const Vocabulary &given = vocabularyOf(vocabulary);
    e.model = SP_BPE;
    e.spBpe.unknown = unknown;
    if (byteIds) e.spBpe.byteIds.assign(byteIds, byteIds + 256);
    std::vector<SpBpe::Piece> pieces;
    for (const auto &key : textKeys(given)) pieces.push_back({key.start, key.bytes, key.value, given.scores[size_t(key.value)]});
    e.spBpe.open(pieces, given.count);
    userSymbols(given, e.spNormalizer.userSymbols);
    userSymbols(given, e.spBpe.userSymbols);
    return int64_t(0);
  });
}

/** SpNormalizer; options: dummy prefix, remove extra spaces, escape spaces, space as suffix. */
extern "C" int64_t fat5_tokenizer_sp_normalizer(uint64_t handle, uint64_t vocabulary, const uint8_t *charsmap,
                                                uint64_t bytes, const int32_t *options) {
  return guarded([&] {
    Encoder &e = encoder(handle);
    e.form = SENTENCEPIECE;
    SpNormalizer &n = e.spNormalizer;
    if (bytes > 0 && !n.charsmap.open(charsmap, bytes)) return int64_t(BAD_STRINGS);
    n.dummyPrefix = options[0] != 0;
    n.removeExtraSpaces = options[1] != 0;
    n.escapeSpaces = options[2] != 0;
    n.spaceAsSuffix = options[3] != 0;
    e.wholeTexts = !n.escapeSpaces || !vocabularyOf(vocabulary).staysInWords(n.spaceAsSuffix);
    n.prepare();
    return int64_t(0);
  });
}

/** HfNormalizer; options in the order of its fields. */
extern "C" int64_t fat5_tokenizer_hf_normalizer(uint64_t handle, uint64_t vocabulary, const uint8_t *charsmap,
                                                uint64_t bytes, const int32_t *options) {
  return guarded([&] {
    Encoder &e = encoder(handle);
    e.form = PARTS;
    HfNormalizer &n = e.hfNormalizer;
    if (bytes > 0 && !n.charsmap.open(charsmap, bytes)) return int64_t(BAD_STRINGS);
    n.stripLeft = options[0] != 0;
    n.stripRight = options[1] != 0;
    n.collapse = options[2];
    n.prependMark = options[3] != 0;
    n.whitespaceSplit = options[4] != 0;
    n.spacesToMarks = options[5] != 0;
    n.scheme = options[6];
    n.cut = options[7] == CUT_RUNS && !vocabularyOf(vocabulary).marksLead() ? CUT_NONE : options[7];
    n.prepare();
    return int64_t(0);
  });
}

/** Encoder::encodeBatch; flags bit 0: add special tokens, bit 1: special tokens in the text are text. */
extern "C" int64_t fat5_tokenizer_encode(uint64_t handle, const uint8_t *bytes, const uint32_t *offsets,
                                         uint32_t count, int32_t flags, int32_t threads, uint32_t *idOffsets,
                                         uint8_t *declined) {
  return guarded([&] {
    return encoder(handle).encodeBatch(bytes, offsets, count, {(flags & 1) != 0, (flags & 2) != 0}, threads, idOffsets,
                                       declined);
  });
}

/** The ids that fat5_tokenizer_encode has counted. */
extern "C" int64_t fat5_tokenizer_ids(uint64_t handle, int32_t *ids) {
  return guarded([&] {
    encoder(handle).copy(ids);
    return int64_t(0);
  });
}
