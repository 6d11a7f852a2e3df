#include "sp_normalizer.h"

namespace tokenizer {

void SpNormalizer::prepare() {
  for (int c = 1; c < 128; c++) {
    const uint8_t one = uint8_t(c);
    plain[c] = c != ' ' && (charsmap.empty() || charsmap.longest(&one, &one + 1).consumed == 0);
    for (int d = 1; d < 128 && plain[c] && !charsmap.empty(); d++) {
      const uint8_t two[2] = {one, uint8_t(d)};
      if (charsmap.longest(two, two + 2).consumed == 2) plain[c] = false;
    }
    DoubleArray::Walk walk;
    if (!userSymbols.empty() && userSymbols.step(walk, one)) plain[c] = false;
  }
}

/** What stands for the text at p. Bytes that are not UTF-8 become U+FFFD one by one. */
Charsmap::Match SpNormalizer::next(const uint8_t *p, const uint8_t *end) const {
  static const uint8_t REPLACEMENT[] = {0xef, 0xbf, 0xbd};
  if (!userSymbols.empty())
    if (const uint32_t bytes = userSymbols.longest(p, end)) return {p, bytes, bytes};
  if (!charsmap.empty()) {
    const Charsmap::Match rule = charsmap.longest(p, end);
    if (rule.consumed > 0) return rule;
  }
  const Character c = characterAt(p, end);
  if (c.codePoint == INVALID) return {REPLACEMENT, 3, 1};
  return {p, c.bytes, c.bytes};
}

void SpNormalizer::space(Words &out) const {
  if (!spaceAsSuffix) out.starts.push_back(uint32_t(out.text.size()));
  if (escapeSpaces) out.text.insert(out.text.end(), MARK, MARK + 3);
  else out.text.push_back(' ');
  if (spaceAsSuffix) out.starts.push_back(uint32_t(out.text.size()));
}

void SpNormalizer::run(const uint8_t *p, const uint8_t *end, bool prefix, Words &out) const {
  out.text.clear();
  out.starts.clear();
  const auto isSpace = [](const Charsmap::Match &m) { return m.bytes == 1 && *m.text == ' '; };
  if (removeExtraSpaces)
    while (p < end) {
      const Charsmap::Match m = next(p, end);
      if (!isSpace(m)) break;
      p += m.consumed;
    }
  if (p == end) return;
  if (prefix && dummyPrefix && !spaceAsSuffix) space(out);
  bool afterSpace = removeExtraSpaces;
  while (p < end) {
    if (plain[*p]) {
      const uint8_t *q = p;
      while (q < end && plain[*q]) q++;
      if (q < end && *q >= 0x80) q--; // it may be the start of a rule with what follows
      if (q > p) {
        out.text.insert(out.text.end(), p, q);
        afterSpace = false;
        p = q;
        continue;
      }
    }
    const Charsmap::Match m = next(p, end);
    p += m.consumed;
    const uint8_t *text = m.text, *stop = m.text + m.bytes;
    while (afterSpace && text < stop && *text == ' ') text++;
    if (text == stop) continue;
    afterSpace = removeExtraSpaces && stop[-1] == ' ';
    for (; text < stop; text++) {
      if (*text == ' ') {
        space(out);
      } else if (isMark(text, stop)) {
        if (!spaceAsSuffix) out.starts.push_back(uint32_t(out.text.size()));
        out.text.insert(out.text.end(), text, text + 3);
        if (spaceAsSuffix) out.starts.push_back(uint32_t(out.text.size()));
        text += 2;
      } else {
        out.text.push_back(*text);
      }
    }
  }
  if (removeExtraSpaces) {
    size_t size = out.text.size();
    const uint8_t *text = out.text.data();
    if (escapeSpaces)
      while (size >= 3 && isMark(text + size - 3, text + size)) size -= 3;
    else
      while (size > 0 && text[size - 1] == ' ') size--;
    out.text.resize(size);
  }
  if (prefix && dummyPrefix && spaceAsSuffix) space(out);
  while (!out.starts.empty() && out.starts.back() >= out.text.size()) out.starts.pop_back();
}

} // namespace tokenizer
