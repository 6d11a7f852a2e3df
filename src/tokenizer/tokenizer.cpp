// C interface of the encoder, for native.ts. Handles are addresses; nothing throws across the boundary.
#include "boundary.h"
#include "encoder.h"

using namespace tokenizer;

namespace {

/** Cuts UTF-8 into strings whose lengths are given in UTF-16 units, as JavaScript counts. */
class Strings {
public:
  Strings(const uint8_t *p, uint64_t bytes, const int32_t *units) : p(p), end(p + bytes), units(units) {}
  struct Span {
    const uint8_t *start;
    uint32_t bytes;
  };
  Span next() {
    const uint8_t *start = p;
    for (int32_t left = *units++; left > 0;) {
      if (p >= end) throw std::length_error("text is shorter than its strings");
      const Character c = characterAt(p, end);
      left -= c.bytes == 4 ? 2 : 1;
      if (left < 0) throw std::length_error("a string ends inside a character");
      p += c.bytes;
    }
    return {start, uint32_t(p - start)};
  }

private:
  const uint8_t *p, *end;
  const int32_t *units;
};

Encoder &encoder(uint64_t handle) { return *reinterpret_cast<Encoder *>(handle); }

} // namespace

/** A new encoder without vocabulary, or 0. */
extern "C" uint64_t fat5_tokenizer_create() { return uint64_t(new (std::nothrow) Encoder); }

extern "C" int fat5_tokenizer_free(uint64_t handle) {
  delete &encoder(handle);
  return 0;
}

/** count pieces with their ids. options as BpeOptions. */
extern "C" int64_t fat5_tokenizer_bpe(uint64_t handle, const uint8_t *text, uint64_t bytes, const int32_t *units,
                                      const int32_t *ids, uint32_t count, const int32_t *options) {
  return guarded([&] {
    Bpe &bpe = encoder(handle).bpe;
    bpe.options = {options[0], options[1], options[2], options[3], options[4]};
    bpe.pieces.reserve(count);
    Strings strings(text, bytes, units);
    for (uint32_t i = 0; i < count; i++) {
      const auto piece = strings.next();
      bpe.addPiece(piece.start, piece.bytes, ids[i]);
    }
    bpe.reserveMerges(0);
    return int64_t(0);
  });
}

/** count merges as 2 * count strings, left and right. Problem MISSING_PIECE: *wrong is the merge. */
extern "C" int64_t fat5_tokenizer_merges(uint64_t handle, const uint8_t *text, uint64_t bytes, const int32_t *units,
                                         uint32_t count, uint32_t *wrong) {
  return guarded([&] {
    Bpe &bpe = encoder(handle).bpe;
    bpe.reserveMerges(count);
    Strings strings(text, bytes, units);
    for (uint32_t i = 0; i < count; i++) {
      const auto left = strings.next(), right = strings.next(); // side by side: their join needs no copy
      const int32_t l = bpe.idOf(left.start, left.bytes), r = bpe.idOf(right.start, right.bytes);
      const int32_t joined = bpe.idOf(left.start, left.bytes + right.bytes);
      if (l == NO_ID || r == NO_ID || joined == NO_ID) {
        *wrong = i;
        return int64_t(MISSING_PIECE);
      }
      bpe.addMerge(l, r, i, joined);
    }
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
 * count pieces of a Unigram vocabulary by id. kinds: 0 never made from text, 1 made from text, 2 and user-defined.
 * byteIds: 256 or null. float32: sentencepiece's arithmetic.
 */
extern "C" int64_t fat5_tokenizer_unigram(uint64_t handle, const uint8_t *text, uint64_t bytes, const int32_t *units,
                                          const double *scores, const uint8_t *kinds, uint32_t count, int32_t unknown,
                                          double unknownScore, const int32_t *byteIds, int32_t float32) {
  return guarded([&] {
    Encoder &e = encoder(handle);
    e.model = UNIGRAM;
    Unigram &unigram = e.unigram;
    unigram.scores.assign(scores, scores + count);
    unigram.unknown = unknown;
    unigram.unknownScore = unknownScore;
    unigram.float32 = float32 != 0;
    if (byteIds) unigram.byteIds.assign(byteIds, byteIds + 256);
    std::vector<DoubleArray::Key> keys, users;
    keys.reserve(count);
    Strings strings(text, bytes, units);
    for (uint32_t i = 0; i < count; i++) {
      const auto piece = strings.next();
      if (kinds[i] > 0) keys.push_back({piece.start, piece.bytes, int32_t(i)});
      if (kinds[i] > 1) users.push_back(keys.back());
      if (int32_t(i) == unknown && kinds[i] > 0) unigram.unknownPiece.assign(piece.start, piece.start + piece.bytes);
    }
    unigram.pieces.build(std::move(keys));
    if (!users.empty()) e.spNormalizer.userSymbols.build(std::move(users));
    return int64_t(0);
  });
}

/** The same for sentencepiece's BPE. */
extern "C" int64_t fat5_tokenizer_sp_bpe(uint64_t handle, const uint8_t *text, uint64_t bytes, const int32_t *units,
                                         const double *scores, const uint8_t *kinds, uint32_t count, int32_t unknown,
                                         const int32_t *byteIds) {
  return guarded([&] {
    Encoder &e = encoder(handle);
    e.model = SP_BPE;
    e.spBpe.unknown = unknown;
    if (byteIds) e.spBpe.byteIds.assign(byteIds, byteIds + 256);
    std::vector<SpBpe::Piece> pieces;
    std::vector<DoubleArray::Key> users;
    Strings strings(text, bytes, units);
    for (uint32_t i = 0; i < count; i++) {
      const auto piece = strings.next();
      if (kinds[i] > 0) pieces.push_back({piece.start, piece.bytes, int32_t(i), scores[i]});
      if (kinds[i] > 1) users.push_back({piece.start, piece.bytes, int32_t(i)});
    }
    e.spBpe.open(pieces, int32_t(count));
    if (!users.empty()) {
      e.spNormalizer.userSymbols.build(users);
      e.spBpe.userSymbols.build(std::move(users));
    }
    return int64_t(0);
  });
}

/** SpNormalizer; options: dummy prefix, remove extra spaces, escape spaces, space as suffix, pieces go beyond words. */
extern "C" int64_t fat5_tokenizer_sp_normalizer(uint64_t handle, const uint8_t *charsmap, uint64_t bytes,
                                                const int32_t *options) {
  return guarded([&] {
    Encoder &e = encoder(handle);
    e.form = SENTENCEPIECE;
    SpNormalizer &n = e.spNormalizer;
    if (bytes > 0 && !n.charsmap.open(charsmap, bytes)) return int64_t(BAD_STRINGS);
    n.dummyPrefix = options[0] != 0;
    n.removeExtraSpaces = options[1] != 0;
    n.escapeSpaces = options[2] != 0;
    n.spaceAsSuffix = options[3] != 0;
    e.wholeTexts = options[4] != 0;
    n.prepare();
    return int64_t(0);
  });
}

/** HfNormalizer; options in the order of its fields. */
extern "C" int64_t fat5_tokenizer_hf_normalizer(uint64_t handle, const uint8_t *charsmap, uint64_t bytes,
                                                const int32_t *options) {
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
    n.cut = options[7];
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
