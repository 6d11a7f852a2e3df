// Text as a trainer counts it: characters and sequences replaced by the rules of a precompiled charsmap, the longest
// that matches first; in sentencepiece's way spaces are collapsed, one is put before the text, all are written as ▁.
#pragma once
#include "charsmap.h"
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
  Charsmap rules;

  /** Text that stays as it is and is a piece of its own. */
  void addSymbol(std::string symbol) {
    auto &symbols = symbolsByByte[uint8_t(symbol[0])];
    symbols.push_back(std::move(symbol));
    std::sort(symbols.begin(), symbols.end(), [](auto &a, auto &b) { return a.size() > b.size(); });
    hasSymbols = true;
  }
  bool changesNothing() const { return !marksSpaces && !hasSymbols && rules.empty(); }

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
      if (!rules.empty()) {
        const Charsmap::Match match = rules.longest(p, end);
        for (uint32_t i = 0; i < match.bytes; i++) writer.put(match.text[i]);
        p += match.consumed;
        if (match.consumed > 0) continue;
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
  std::vector<std::string> symbolsByByte[256]; // long ones first
  bool hasSymbols = false;

  size_t symbolAt(const uint8_t *p, const uint8_t *end) const {
    for (const std::string &symbol : symbolsByByte[*p])
      if (symbol.size() <= size_t(end - p) && memcmp(p, symbol.data(), symbol.size()) == 0) return symbol.size();
    return 0;
  }
};

} // namespace tokenizer
