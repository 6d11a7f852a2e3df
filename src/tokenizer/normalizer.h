// Text as a trainer counts it: characters and sequences replaced by the rules of a precompiled charsmap, the longest
// that matches first; in sentencepiece's way spaces are collapsed, one is put before the text, all are written as ▁.
#pragma once
#include "unicode.h"
#include <algorithm>
#include <cstring>
#include <string>
#include <vector>

namespace tokenizer {

/** Stands before and behind a symbol in normalised text; never part of UTF-8. */
constexpr uint8_t SYMBOL_MARK = 0xff;

class Normalizer {
public:
  bool marksSpaces = false;

  /** units: a double array trie, Darts-clone's format; text: what its leaves point to, each ended by a zero byte. */
  void setRules(const uint32_t *first, size_t count, const uint8_t *text, size_t bytes) {
    units.assign(first, first + count);
    replacements.assign(text, text + bytes);
    replacements.push_back(0);
  }
  /** Text that stays as it is and is a piece of its own. */
  void addSymbol(std::string symbol) {
    auto &symbols = symbolsByByte[uint8_t(symbol[0])];
    symbols.push_back(std::move(symbol));
    std::sort(symbols.begin(), symbols.end(), [](auto &a, auto &b) { return a.size() > b.size(); });
    hasSymbols = true;
  }
  bool changesNothing() const { return !marksSpaces && !hasSymbols && units.empty(); }

  /** Appends the normal form of p … end to `out`. */
  void normalize(const uint8_t *p, const uint8_t *end, std::vector<uint8_t> &out) const {
    Writer writer{out, marksSpaces};
    while (p < end) {
      if (const size_t symbol = symbolAt(p, end)) {
        writer.mark();
        out.insert(out.end(), p, p + symbol);
        out.push_back(SYMBOL_MARK);
        p += symbol;
        continue;
      }
      const Match match = longest(p, end);
      if (match.bytes > 0) {
        for (const uint8_t *text = &replacements[match.replacement]; *text; text++) writer.put(*text);
        p += match.bytes;
        continue;
      }
      const Character c = characterAt(p, end);
      if (c.codePoint == INVALID) { // cuts, as a symbol without text
        writer.mark();
        out.push_back(SYMBOL_MARK);
      } else {
        for (uint32_t i = 0; i < c.bytes; i++) writer.put(p[i]);
      }
      p += c.bytes;
    }
  }

private:
  struct Match {
    uint32_t bytes, replacement;
  };
  struct Writer {
    std::vector<uint8_t> &out;
    bool marksSpaces;
    bool spaceDue = true; // before the next byte

    void put(uint8_t byte) {
      if (marksSpaces && byte == ' ') spaceDue = true;
      else {
        settle();
        out.push_back(byte);
      }
    }
    void mark() {
      settle();
      out.push_back(SYMBOL_MARK);
    }
    void settle() {
      if (marksSpaces && spaceDue) out.insert(out.end(), {0xe2, 0x96, 0x81}); // ▁
      spaceDue = false;
    }
  };
  std::vector<uint32_t> units;
  std::vector<uint8_t> replacements;
  std::vector<std::string> symbolsByByte[256]; // long ones first
  bool hasSymbols = false;

  size_t symbolAt(const uint8_t *p, const uint8_t *end) const {
    for (const std::string &symbol : symbolsByByte[*p])
      if (symbol.size() <= size_t(end - p) && memcmp(p, symbol.data(), symbol.size()) == 0) return symbol.size();
    return 0;
  }
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
