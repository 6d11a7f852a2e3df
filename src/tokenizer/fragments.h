// Counts the fragments of a corpus that sentencepiece's pieces stay within: lines are normalised, spaces become ▁, and
// text is cut before a space, where the writing system changes, around digits and at the user's symbols.
#pragma once
#include "normalizer.h"
#include "string_table.h"
#include <string>
#include <vector>

namespace tokenizer {

enum FragmentOption : uint32_t { CUT_SPACES = 1, CUT_SCRIPTS = 2, CUT_NUMBERS = 4, CUT_DIGITS = 8 };

class FragmentCounter {
public:
  Normalizer normalizer;
  uint32_t options = CUT_SPACES | CUT_SCRIPTS | CUT_NUMBERS;

  FragmentCounter();
  /** Text that is a piece of its own wherever it stands. */
  void addSymbol(std::string symbol);
  /** Counts the lines of texts [offsets[i], offsets[i + 1]). The sum does not depend on `threads`. */
  void feed(const uint8_t *bytes, const uint32_t *offsets, uint32_t count, int threads);
  /** All fragments counted since; they are forgotten here. */
  StringTable take();

private:
  std::vector<uint8_t> scripts; // by code point
  std::vector<std::string> symbolsByByte[256]; // long ones first
  std::vector<StringTable> counted; // one per thread

  size_t symbolAt(const uint8_t *p, const uint8_t *end) const;
  void countLine(const uint8_t *p, const uint8_t *end, std::vector<uint8_t> &line, StringTable &words) const;
  void cut(const std::vector<uint8_t> &line, StringTable &words) const;
};

/** The tables of several threads as one. They are emptied. */
StringTable merged(std::vector<StringTable> &tables);

} // namespace tokenizer
