// C interface of vocabularies, for native_vocabulary.ts.
#include "vocabulary.h"
#include "boundary.h"
#include "strings.h"
#include <algorithm>

namespace tokenizer {

namespace {

/** Calls place(at, bytes) for every mark U+2581 in a piece; false as soon as that is. */
template <class OnMark> bool everyMark(const uint8_t *p, uint32_t bytes, OnMark place) {
  constexpr uint8_t MARK[3] = {0xe2, 0x96, 0x81};
  for (uint32_t at = 0; at + 3 <= bytes; at++)
    if (p[at] == MARK[0] && memcmp(p + at, MARK, 3) == 0 && !place(at)) return false;
  return true;
}

} // namespace

bool Vocabulary::staysInWords(bool markAtEnd) const {
  for (size_t i = 0; i < pieces.size(); i++) {
    const auto &entry = pieces.entry(i);
    const auto isAtItsEnd = [&](uint32_t at) { return at == (markAtEnd ? entry.bytes - 3 : 0); };
    if (isText(int32_t(entry.value)) && !everyMark(pieces.text(entry), entry.bytes, isAtItsEnd)) return false;
  }
  return true;
}

bool Vocabulary::marksLead() const {
  for (size_t i = 0; i < pieces.size(); i++) {
    const auto &entry = pieces.entry(i);
    uint32_t next = 0; // where a mark may be
    const auto follows = [&](uint32_t at) { return at == next && (next += 3) > 0; };
    if (!everyMark(pieces.text(entry), entry.bytes, follows)) return false;
  }
  return true;
}

} // namespace tokenizer

using namespace tokenizer;

namespace {

Vocabulary &at(uint64_t handle) { return *reinterpret_cast<Vocabulary *>(handle); }

} // namespace

/** A new vocabulary without pieces, or 0. */
extern "C" uint64_t fat5_vocabulary_create() { return uint64_t(new (std::nothrow) Vocabulary); }

extern "C" int fat5_vocabulary_free(uint64_t handle) {
  delete &at(handle);
  return 0;
}

/** readTokenizerJson; Problem DECLINED where it is false. */
extern "C" int64_t fat5_vocabulary_json(uint64_t handle, const uint8_t *text, uint64_t bytes, uint32_t *spans) {
  return guarded([&] { return readTokenizerJson(text, bytes, at(handle), spans) ? int64_t(0) : int64_t(DECLINED); });
}

/** readSentencePieceModel. */
extern "C" int64_t fat5_vocabulary_sentencepiece(uint64_t handle, const uint8_t *model, uint64_t bytes, uint32_t *spans) {
  return guarded([&] {
    const int32_t count = readSentencePieceModel(model, bytes, at(handle), spans);
    return count < 0 ? int64_t(DECLINED) : int64_t(count);
  });
}

/** count pieces. ids: null where a piece's id is its place; of equal pieces the last one counts. scores, types: or null. */
extern "C" int64_t fat5_vocabulary_pieces(uint64_t handle, const uint8_t *text, uint64_t bytes, const int32_t *units,
                                          const int32_t *ids, const double *scores, const uint8_t *types, uint32_t count) {
  return guarded([&] {
    Vocabulary &vocabulary = at(handle);
    vocabulary.pieces.reserve(count);
    Strings strings(text, bytes, units);
    for (uint32_t i = 0; i < count; i++) {
      const auto piece = strings.next();
      vocabulary.add(piece.start, piece.bytes, ids ? ids[i] : int32_t(i));
    }
    if (scores) vocabulary.scores.assign(scores, scores + count);
    if (types) vocabulary.types.assign(types, types + count);
    return int64_t(0);
  });
}

/** count merges as 2 * count strings, left and right. Problem MISSING_PIECE: a piece of one, or what it makes, is missing. */
extern "C" int64_t fat5_vocabulary_merges(uint64_t handle, const uint8_t *text, uint64_t bytes, const int32_t *units,
                                          uint32_t count) {
  return guarded([&] {
    Strings strings(text, bytes, units);
    for (uint32_t i = 0; i < count; i++) {
      const auto left = strings.next(), right = strings.next(); // side by side: their join needs no copy
      if (!at(handle).addMerge(left.start, left.bytes, right.bytes)) return int64_t(MISSING_PIECE);
    }
    return int64_t(0);
  });
}

/** Bytes of all pieces, one more than the highest id, number of merges. */
extern "C" int64_t fat5_vocabulary_sizes(uint64_t handle, uint32_t *sizes) {
  const Vocabulary &vocabulary = at(handle);
  uint64_t bytes = 0;
  for (size_t i = 0; i < vocabulary.pieces.size(); i++) bytes += vocabulary.pieces.entry(i).bytes;
  sizes[0] = uint32_t(bytes);
  sizes[1] = uint32_t(vocabulary.count);
  sizes[2] = uint32_t(vocabulary.merges.size());
  return 0;
}

/** All pieces' text and, by id, where a piece starts and how many bytes it has; starts of ids without one are 0xffffffff. */
extern "C" int64_t fat5_vocabulary_texts(uint64_t handle, uint8_t *text, uint32_t *starts, uint32_t *lengths) {
  const Vocabulary &vocabulary = at(handle);
  std::fill(starts, starts + vocabulary.count, 0xffffffff);
  uint32_t place = 0;
  for (size_t i = 0; i < vocabulary.pieces.size(); i++) {
    const auto &entry = vocabulary.pieces.entry(i);
    memcpy(text + place, vocabulary.pieces.text(entry), entry.bytes);
    starts[entry.value] = place;
    lengths[entry.value] = entry.bytes;
    place += entry.bytes;
  }
  return 0;
}

/** Scores and, unless null, types by id. */
extern "C" int64_t fat5_vocabulary_scores(uint64_t handle, double *scores, uint8_t *types) {
  std::copy(at(handle).scores.begin(), at(handle).scores.end(), scores);
  if (types) std::copy(at(handle).types.begin(), at(handle).types.end(), types);
  return 0;
}

/** Ids of the left and right pieces of all merges. */
extern "C" int64_t fat5_vocabulary_joins(uint64_t handle, int32_t *pairs) {
  for (const auto &join : at(handle).merges) {
    *pairs++ = join.left;
    *pairs++ = join.right;
  }
  return 0;
}

/** Id of a piece, or Problem MISSING_PIECE. */
extern "C" int64_t fat5_vocabulary_id(uint64_t handle, const uint8_t *piece, uint32_t bytes) {
  const int32_t id = at(handle).idOf(piece, bytes);
  return id < 0 ? int64_t(MISSING_PIECE) : int64_t(id);
}
