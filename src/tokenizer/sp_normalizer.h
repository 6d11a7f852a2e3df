// sentencepiece's normalizer: rules, spaces, marks. pipeline/sp_normalizer.ts is the same in TypeScript.
#pragma once
#include "charsmap.h"
#include "double_array.h"
#include "unicode.h"

namespace tokenizer {

/** What stands for a space: U+2581. */
constexpr uint8_t MARK[] = {0xe2, 0x96, 0x81};
inline bool isMark(const uint8_t *p, const uint8_t *end) {
  return end - p >= 3 && p[0] == MARK[0] && p[1] == MARK[1] && p[2] == MARK[2];
}

/** A normalized text and where its words start; words begin with a mark, or end with one. */
struct Words {
  std::vector<uint8_t> text;
  std::vector<uint32_t> starts;
};

class SpNormalizer {
public:
  Charsmap charsmap;
  DoubleArray userSymbols; // left as they are
  bool dummyPrefix = true, removeExtraSpaces = true, escapeSpaces = true, spaceAsSuffix = false;

  /** Call when all is set. */
  void prepare();
  void run(const uint8_t *p, const uint8_t *end, bool prefix, Words &out) const;

private:
  bool plain[256] = {}; // ASCII that stays as it is before other ASCII
  Charsmap::Match next(const uint8_t *p, const uint8_t *end) const;
  void space(Words &out) const;
};

} // namespace tokenizer
