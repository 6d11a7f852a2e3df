// The characters of a corpus that a vocabulary spells words with.
#pragma once
#include "string_table.h"
#include "unicode.h"
#include <algorithm>
#include <vector>

namespace tokenizer {

struct Alphabet {
  std::vector<uint32_t> codePoints; // most frequent first, of equals the lowest
  std::vector<uint64_t> counts;     // how often each occurs
  uint64_t distinct = 0;            // characters in the corpus
};

template <class OnCharacter> void eachCharacter(const uint8_t *p, uint32_t bytes, OnCharacter character) {
  for (const uint8_t *end = p + bytes; p < end;) {
    const Character c = characterAt(p, end);
    character(c);
    p += c.bytes;
  }
}

/** The most frequent characters, until they are `coverage` of the text or `limit`. */
inline Alphabet chooseAlphabet(const StringTable &words, double coverage, size_t limit) {
  std::vector<uint64_t> counts(0x110000);
  uint64_t total = 0;
  for (size_t i = 0; i < words.size(); i++) {
    const auto &word = words.entry(i);
    eachCharacter(words.text(word), word.bytes, [&](Character c) {
      if (c.codePoint == INVALID) return;
      counts[c.codePoint] += word.value;
      total += word.value;
    });
  }
  Alphabet chosen;
  std::vector<uint32_t> &found = chosen.codePoints;
  for (uint32_t c = 0; c < counts.size(); c++)
    if (counts[c] > 0) found.push_back(c);
  chosen.distinct = found.size();
  std::stable_sort(found.begin(), found.end(), [&](uint32_t a, uint32_t b) { return counts[a] > counts[b]; });
  limit = std::min(limit, found.size());
  size_t kept = 0;
  for (uint64_t covered = 0; kept < limit && double(covered) < coverage * double(total); kept++)
    covered += counts[found[kept]];
  found.resize(kept);
  for (const uint32_t c : found) chosen.counts.push_back(counts[c]);
  return chosen;
}

} // namespace tokenizer
