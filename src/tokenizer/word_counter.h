// Counts the words of a corpus, the units that a trainer's pieces stay within. Text is normalised and cut
//   by the rules of a pattern (pretokenize.h), or
//   as sentencepiece does it: line by line, before every space, where the writing system changes, around digits;
// and always around the user's symbols.
#pragma once
#include "normalizer.h"
#include "pretokenize.h"
#include "string_table.h"
#include <vector>

namespace tokenizer {

/** How to cut without rules; and, with or without, that words are spelled in bytes. */
enum CutOption : uint32_t { CUT_SPACES = 1, CUT_SCRIPTS = 2, CUT_NUMBERS = 4, CUT_DIGITS = 8, BYTE_LEVEL = 16 };

/** The character that stands for a byte, as GPT-2 chose them: itself where that is printable in Latin-1. */
uint32_t byteCharacter(uint8_t byte);


class WordCounter {
public:
  Normalizer normalizer;
  PreTokenizer preTokenizer; // with rules: text is cut by them
  uint32_t cuts = 0;         // CutOptions

  WordCounter();
  /** Counts texts [offsets[i], offsets[i + 1]). The sum does not depend on `threads`. */
  void feed(const uint8_t *bytes, const uint32_t *offsets, uint32_t count, int threads);
  /** All words counted since; they are forgotten here. */
  StringTable take();

private:
  std::vector<uint8_t> scripts;     // by code point
  std::vector<StringTable> counted; // one per thread

  void countText(const uint8_t *p, const uint8_t *end, std::vector<uint8_t> &normal, StringTable &words) const;
  void cutBySymbols(const uint8_t *p, const uint8_t *end, StringTable &words) const;
  void cutByRules(const uint8_t *p, const uint8_t *end, StringTable &words) const;
  void cutByScript(const uint8_t *p, const uint8_t *end, StringTable &words) const;
};

} // namespace tokenizer
