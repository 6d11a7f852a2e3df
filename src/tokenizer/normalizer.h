// sentencepiece's normalisation: characters and sequences replaced by the rules of a precompiled charsmap, the longest
// that matches first; spaces collapsed, one put before the text, all of them written as ▁.
#pragma once
#include "unicode.h"
#include <cstring>
#include <vector>

namespace tokenizer {

struct Normalizer {
  bool addDummyPrefix = true, removeExtraSpaces = true;

  /** units: a double array trie, Darts-clone's format; replacements: texts that end in zero bytes, where leaves point. */
  void setRules(const uint32_t *first, size_t count, const uint8_t *text, size_t bytes) {
    units.assign(first, first + count);
    replacements.assign(text, text + bytes);
    replacements.push_back(0);
  }

  /** Appends the normal form of p … end to `out`. keep(p): bytes at p to jump over, what it appends itself, or 0. */
  template <class Keep>
  void normalize(const uint8_t *p, const uint8_t *end, std::vector<uint8_t> &out, Keep keep) const {
    const size_t start = out.size();
    const auto space = [&] { out.insert(out.end(), {0xe2, 0x96, 0x81}); };
    const auto endsInSpace = [&] { return out.size() >= start + 3 && memcmp(&out[out.size() - 3], "\xe2\x96\x81", 3) == 0; };
    bool pending = addDummyPrefix, blank = true; // a space to write before the next character; nothing written yet
    const auto append = [&](const uint8_t *text, size_t bytes) {
      for (size_t i = 0; i < bytes; i++) {
        if (text[i] == ' ') {
          if (!removeExtraSpaces) {
            if (pending) space();
            pending = false;
            space();
          } else if (!blank) pending = true;
          continue;
        }
        if (pending) space();
        pending = blank = false;
        out.push_back(text[i]);
      }
    };
    (void)endsInSpace;
    while (p < end) {
      if (const size_t kept = keep(p)) {
        p += kept;
        pending = blank = false;
        continue;
      }
      const Match match = longest(p, end);
      if (match.bytes > 0) {
        const uint8_t *text = replacements.data() + match.replacement;
        append(text, strlen(reinterpret_cast<const char *>(text)));
        p += match.bytes;
        continue;
      }
      const Character c = characterAt(p, end);
      if (c.codePoint == INVALID) append(reinterpret_cast<const uint8_t *>("\xef\xbf\xbd"), 3);
      else append(p, c.bytes);
      p += c.bytes;
    }
  }

private:
  struct Match {
    uint32_t bytes, replacement;
  };
  std::vector<uint32_t> units;
  std::vector<uint8_t> replacements;

  static uint32_t offsetOf(uint32_t unit) { return (unit >> 10) << ((unit & 512) >> 6); }
  Match longest(const uint8_t *p, const uint8_t *end) const {
    Match found{0, 0};
    if (units.empty()) return found;
    size_t at = offsetOf(units[0]);
    for (const uint8_t *q = p; q < end; q++) {
      at ^= *q;
      if (at >= units.size() || (units[at] & 0x800000ff) != *q) break;
      const uint32_t unit = units[at];
      at ^= offsetOf(unit);
      if ((unit & 256) && at < units.size()) {
        const uint32_t value = units[at] & 0x7fffffff;
        if (value < replacements.size()) found = {uint32_t(q + 1 - p), value};
      }
    }
    return found;
  }
};

} // namespace tokenizer
