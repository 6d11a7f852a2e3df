// The normalizers and pre-tokenizers around marks for spaces that T5's, mT5's and LLaMA's tokenizer.json have.
#pragma once
#include "sp_normalizer.h"

namespace tokenizer {

enum PrependScheme : int32_t { PREPEND_NEVER, PREPEND_ALWAYS, PREPEND_FIRST };
enum WordCut : int32_t {
  CUT_NONE,  // the text is one word
  CUT_MARKS, // every mark starts a word
  CUT_RUNS,  // every run of marks does
};

class HfNormalizer {
public:
  Charsmap charsmap;
  bool stripLeft = false, stripRight = false;
  int32_t collapse = 0;        // runs of spaces become: 0 as they are, 1 a mark, 2 a space
  bool prependMark = false;    // the normalizer Prepend: also before a mark
  bool whitespaceSplit = false;
  bool spacesToMarks = true;
  int32_t scheme = PREPEND_NEVER, cut = CUT_NONE;

  /** Call when all is set. */
  void prepare();
  /** first: the text starts where the whole text does. False: clusters of characters that TypeScript must cut. */
  bool run(const uint8_t *p, const uint8_t *end, bool first, Words &out, std::vector<uint8_t> &scratch) const;

private:
  bool plain[256] = {};
  bool applyRules(const uint8_t *p, const uint8_t *end, std::vector<uint8_t> &out) const;
  bool applyRun(const uint8_t *p, const uint8_t *end, std::vector<uint8_t> &out) const;
  void applyCluster(const uint8_t *p, const uint8_t *end, std::vector<uint8_t> &out) const;
  void applyRule(const uint8_t *p, const uint8_t *end, std::vector<uint8_t> &out) const;
  void marks(const uint8_t *p, const uint8_t *end, bool first, Words &out) const;
};

} // namespace tokenizer
