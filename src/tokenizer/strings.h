// How TypeScript hands over many strings: one UTF-8 text, and the length of each.
#pragma once
#include "unicode.h"
#include <stdexcept>

namespace tokenizer {

/** Cuts UTF-8 into strings whose lengths are given in UTF-16 units, as JavaScript counts. */
class Strings {
public:
  Strings(const uint8_t *p, uint64_t bytes, const int32_t *units) : p(p), end(p + bytes), units(units) {}
  struct Span {
    const uint8_t *start;
    uint32_t bytes;
  };
  Span next() {
    const uint8_t *start = p;
    for (int32_t left = *units++; left > 0;) {
      if (p >= end) throw std::length_error("text is shorter than its strings");
      const Character c = characterAt(p, end);
      left -= c.bytes == 4 ? 2 : 1;
      if (left < 0) throw std::length_error("a string ends inside a character");
      p += c.bytes;
    }
    return {start, uint32_t(p - start)};
  }

private:
  const uint8_t *p, *end;
  const int32_t *units;
};

} // namespace tokenizer
