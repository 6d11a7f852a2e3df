// sentencepiece's precompiled rules: pipeline/charsmap.ts says what the bytes mean.
#pragma once
#include <cstdint>
#include <cstring>
#include <vector>

namespace tokenizer {

class Charsmap {
public:
  struct Match {
    const uint8_t *text; // replacement
    uint32_t bytes, consumed; // consumed 0: no rule
  };

  bool empty() const { return units.empty(); }
  /** False where the sizes contradict each other. */
  bool open(const uint8_t *blob, uint64_t bytes) {
    uint32_t trie = 0;
    if (bytes >= 4) memcpy(&trie, blob, 4);
    if (trie == 0 || trie % 4 != 0 || trie > bytes - 4 || bytes == 4 + uint64_t(trie) || blob[bytes - 1] != 0) return false;
    units.resize(trie / 4);
    memcpy(units.data(), blob + 4, trie);
    table.assign(blob + 4 + trie, blob + bytes);
    return true;
  }
  Match longest(const uint8_t *p, const uint8_t *end) const { return walk(p, end, false); }
  Match shortest(const uint8_t *p, const uint8_t *end) const { return walk(p, end, true); }

private:
  static constexpr uint32_t LONGEST_RULE = 255;
  std::vector<uint32_t> units;
  std::vector<uint8_t> table;

  static uint32_t offsetOf(uint32_t unit) { return (unit >> 10) << ((unit & 0x200) >> 6); }
  Match walk(const uint8_t *p, const uint8_t *end, bool shortest) const {
    uint32_t found = 0, start = 0, node = offsetOf(units[0]);
    if (end - p > LONGEST_RULE) end = p + LONGEST_RULE;
    for (const uint8_t *q = p; q < end && *q != 0; q++) {
      node ^= *q;
      if (node >= units.size() || (units[node] & 0x800000ff) != *q) break;
      const uint32_t unit = units[node];
      node ^= offsetOf(unit);
      if (unit & 0x100) {
        if (node >= units.size()) break;
        found = uint32_t(q + 1 - p);
        start = units[node] & 0x7fffffff;
        if (shortest) break;
      }
    }
    if (found == 0) return {nullptr, 0, 0};
    if (start >= table.size()) return {table.data() + table.size() - 1, 0, found};
    const uint8_t *text = table.data() + start;
    return {text, uint32_t(strlen(reinterpret_cast<const char *>(text))), found};
  }
};

} // namespace tokenizer
