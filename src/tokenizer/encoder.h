// Text to token ids: added tokens, then words of normalized text, then the model, with a cache of frequent words per thread.
#pragma once
#include "added_tokens.h"
#include "bpe.h"
#include "hf_normalizer.h"
#include "id_buffer.h"
#include "pretokenize.h"
#include "sp_bpe.h"
#include "unigram.h"

namespace tokenizer {

/** Ids of words met before. One cache line per entry, replaced when another word needs the line. */
class WordCache {
public:
  static constexpr size_t KEY = 26, IDS = 8;
  struct alignas(64) Entry {
    uint8_t bytes, count; // bytes 0: empty
    uint8_t key[KEY];     // zeros behind the word
    int32_t ids[IDS];
    float limit; // of sums in float32: up to here rounding cannot change the ids
  };
  std::vector<Entry> entries = std::vector<Entry>(1 << 15);
};

struct ThreadState {
  WordCache cache;
  BpeScratch bpe;
  UnigramScratch unigram;
  Words words;
  std::vector<uint8_t> scratch;
  IdBuffer ids;
  float total; // of the text so far, in float32
};

struct EncodeFlags {
  bool addSpecialTokens, splitSpecialTokens;
};

enum TextForm : int32_t {
  RAW,           // pieces by rules
  SENTENCEPIECE, // words of SpNormalizer
  PARTS,         // words of HfNormalizer
};
enum ModelKind : int32_t { BPE, UNIGRAM, SP_BPE };

class Encoder {
public:
  Bpe bpe;
  Unigram unigram;
  SpBpe spBpe;
  PreTokenizer preTokenizer;
  bool prefixSpace = false; // RAW: a space in front of every text that has none
  SpNormalizer spNormalizer;
  HfNormalizer hfNormalizer;
  bool wholeTexts = false; // SENTENCEPIECE: pieces go beyond words
  AddedTokens beforeNormalizer, afterNormalizer;
  std::vector<int32_t> prefix, suffix; // what the post-processor puts around one text
  TextForm form = RAW;
  ModelKind model = BPE;

  /**
   * Texts [offsets[i], offsets[i+1]) of bytes -> ids, one text after the other, idOffsets[count+1]; copy() gives them.
   * declined[i]: a text that only TypeScript can do, without ids. Returns the number of ids. The result does not depend
   * on `threads`.
   */
  int64_t encodeBatch(const uint8_t *bytes, const uint32_t *offsets, uint32_t count, EncodeFlags flags, int threads,
                      uint32_t *idOffsets, uint8_t *declined);
  /** The ids of the last encodeBatch. */
  void copy(int32_t *ids) const;

private:
  struct Place {
    uint32_t thread;
    uint32_t count;
    size_t start;
  };
  std::vector<std::unique_ptr<ThreadState>> states; // one per thread, kept between calls
  std::vector<Place> places;                        // of each text's ids

  bool encode(const uint8_t *p, const uint8_t *end, EncodeFlags flags, ThreadState &s) const;
  bool encodePlain(const uint8_t *p, const uint8_t *end, bool first, ThreadState &s) const;
  void encodeRules(const uint8_t *p, const uint8_t *end, ThreadState &s) const;
  void encodeWords(size_t start, ThreadState &s) const;
  void encodeWord(const uint8_t *p, const uint8_t *end, const uint8_t *limit, ThreadState &s) const;
  void encodeFresh(const uint8_t *p, const uint8_t *end, ThreadState &s) const;
  void encodeSum(const uint8_t *p, const uint8_t *end, const uint8_t *limit, ThreadState &s) const;
  int32_t unknownId() const { return model == UNIGRAM ? unigram.unknown : model == SP_BPE ? spBpe.unknown : bpe.options.unknown; }
};

} // namespace tokenizer
