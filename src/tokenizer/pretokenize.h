// Cuts text into the pieces that BPE works on: an ordered list of rules with the meaning of a regular expression's
// alternatives, greedy with backtracking, as patterns.ts lists them. Each rule is linear in what it looks at.
#pragma once
#include "unicode.h"
#include <vector>

namespace tokenizer {

enum RuleKind : int32_t {
  LETTERS,      // \p{L}+, after one optional character: option NONE, SPACE or ANY
  NUMBERS,      // \p{N}{1,option}, option 0: \p{N}+
  OTHERS,       // [^\s\p{L}\p{N}]+, option bit 0: ' ?' before, bit 1: [\r\n]* behind
  NEWLINES,     // \s*[\r\n]+
  INNER_SPACES, // \s+(?!\S)
  SPACES,       // \s+
  CONTRACTIONS, // (?i:'s|'t|'re|'ve|'m|'ll|'d), option 1: lower case only
  SPACED_NUMBERS, // ' ?\p{N}+'
};
enum LetterPrefix : int32_t { PREFIX_NONE = 0, PREFIX_SPACE = 1, PREFIX_ANY = 2 };
enum OtherOption : int32_t { SPACE_BEFORE = 1, NEWLINES_BEHIND = 2 };

struct Rule {
  int32_t kind, option;
};

/** Rules that together match every character; patterns.ts refuses others. */
struct PreTokenizer {
  std::vector<Rule> rules; // none: the whole text is one piece
  uint8_t ascii[128];
  PreTokenizer();

  /** End of the piece that starts at p < end; end is the end of the text. */
  const uint8_t *pieceEnd(const uint8_t *p, const uint8_t *end) const;

private:
  struct Step {
    uint8_t characterClass;
    uint32_t bytes;
  };
  Step at(const uint8_t *p, const uint8_t *end) const {
    if (*p < 0x80) return {ascii[*p], 1};
    const Character c = characterAt(p, end);
    return {classOf(c.codePoint), c.bytes};
  }
  const uint8_t *run(const uint8_t *p, const uint8_t *end, uint8_t characterClass) const {
    while (p < end) {
      const Step s = at(p, end);
      if (s.characterClass != characterClass) break;
      p += s.bytes;
    }
    return p;
  }
  const uint8_t *match(Rule rule, const uint8_t *p, const uint8_t *end) const;
};

} // namespace tokenizer
