// Text to token ids: added tokens, then pieces, then BPE, with a cache of frequent pieces per thread.
#pragma once
#include "added_tokens.h"
#include "bpe.h"
#include "pretokenize.h"

namespace tokenizer {

/** Ids of pieces met before. One cache line per entry, replaced when another piece needs the line. */
class PieceCache {
public:
  static constexpr size_t KEY = 26, IDS = 9;
  struct alignas(64) Entry {
    uint8_t bytes, count; // bytes 0: empty
    uint8_t key[KEY];     // zeros behind the piece
    int32_t ids[IDS];
  };
  std::vector<Entry> entries = std::vector<Entry>(1 << 15);
};

struct ThreadState {
  PieceCache cache;
  BpeScratch scratch;
};

struct EncodeFlags {
  bool addSpecialTokens, splitSpecialTokens;
};

class Encoder {
public:
  Bpe bpe;
  PreTokenizer preTokenizer;
  AddedTokens beforeNormalizer, afterNormalizer;
  std::vector<int32_t> prefix, suffix; // what the post-processor puts around one text

  /** Ids that `bytes` bytes of one text can need at most. */
  size_t bound(size_t bytes) const { return bytes + prefix.size() + suffix.size(); }
  /** Writes the ids of one text, at most bound(); returns their end. */
  int32_t *encode(const uint8_t *p, const uint8_t *end, EncodeFlags flags, int32_t *out, ThreadState &state) const;
  /**
   * Texts [offsets[i], offsets[i+1]) of bytes -> ids, one text after the other, idOffsets[count+1].
   * ids holds bound() of each text. Returns the number of ids. The result does not depend on `threads`.
   */
  int64_t encodeBatch(const uint8_t *bytes, const uint32_t *offsets, uint32_t count, EncodeFlags flags, int threads,
                      int32_t *ids, uint32_t *idOffsets);

private:
  std::vector<std::unique_ptr<ThreadState>> states; // one per thread, kept between calls

  int32_t *encodePlain(const uint8_t *p, const uint8_t *end, int32_t *out, ThreadState &state) const;
  int32_t *encodePiece(const uint8_t *p, const uint8_t *end, const uint8_t *limit, int32_t *out,
                       ThreadState &state) const;
};

} // namespace tokenizer
