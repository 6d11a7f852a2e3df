// UTF-8 and the character classes that pre-tokenizers distinguish.
#pragma once
#include <cstdint>

namespace tokenizer {

enum CharacterClass : uint8_t { OTHER = 0, LETTER = 1, NUMBER = 2, SPACE = 3 };

/** Two-stage table: class of c is pages[page[c >> 8]][c & 255]. */
struct ClassTable {
  uint16_t page[0x1100];
  uint8_t pages[512][256];
  ClassTable();
};
extern const ClassTable classes;

constexpr uint32_t INVALID = 0xffffffff;

struct Character {
  uint32_t codePoint; // INVALID where the bytes are not UTF-8
  uint32_t bytes;     // 1 for an invalid byte
};

/** The character at p < end. Overlong forms, surrogates and truncated sequences are invalid, byte by byte. */
inline Character characterAt(const uint8_t *p, const uint8_t *end) {
  const uint32_t a = *p;
  if (a < 0x80) return {a, 1};
  const auto continues = [&](int i) { return p + i < end && (p[i] & 0xc0) == 0x80; };
  if (a >= 0xc2 && a < 0xe0) {
    if (continues(1)) return {(a & 31) << 6 | (p[1] & 63u), 2};
  } else if (a >= 0xe0 && a < 0xf0) {
    if (continues(1) && continues(2)) {
      const uint32_t c = (a & 15) << 12 | (p[1] & 63u) << 6 | (p[2] & 63u);
      if (c >= 0x800 && (c < 0xd800 || c >= 0xe000)) return {c, 3};
    }
  } else if (a >= 0xf0 && a < 0xf5) {
    if (continues(1) && continues(2) && continues(3)) {
      const uint32_t c = (a & 7) << 18 | (p[1] & 63u) << 12 | (p[2] & 63u) << 6 | (p[3] & 63u);
      if (c >= 0x10000 && c < 0x110000) return {c, 4};
    }
  }
  return {INVALID, 1};
}

/** Writes a code point as UTF-8; returns its bytes. */
inline uint32_t writeCharacter(uint32_t c, uint8_t *out) {
  if (c < 0x80) {
    *out = uint8_t(c);
    return 1;
  }
  const int more = c < 0x800 ? 1 : c < 0x10000 ? 2 : 3;
  *out++ = uint8_t(0xff00 >> (more + 1) | c >> 6 * more);
  for (int i = more - 1; i >= 0; i--) *out++ = uint8_t(0x80 | (c >> 6 * i & 63));
  return uint32_t(more + 1);
}

inline CharacterClass classOf(uint32_t codePoint) {
  if (codePoint == INVALID) return OTHER;
  return CharacterClass(classes.pages[classes.page[codePoint >> 8]][codePoint & 255]);
}

} // namespace tokenizer
