#include "hf_normalizer.h"
#include "joining_table.h"
#include <algorithm>

namespace tokenizer {

namespace {

bool joins(uint32_t codePoint) {
  const uint32_t *last = JOINING_BOUNDS + sizeof(JOINING_BOUNDS) / sizeof(uint32_t);
  return (std::upper_bound(JOINING_BOUNDS, last, codePoint) - JOINING_BOUNDS) % 2 == 1;
}

/** The space that ends at `end`, or `end`. */
const uint8_t *spaceBefore(const uint8_t *p, const uint8_t *end) {
  if (p == end) return end;
  const uint8_t *start = end - 1;
  while (start > p && (*start & 0xc0) == 0x80) start--;
  const Character c = characterAt(start, end);
  return start + c.bytes == end && classOf(c.codePoint) == SPACE ? start : end;
}

} // namespace

void HfNormalizer::prepare() {
  for (int c = 1; c < 128; c++) {
    const uint8_t one = uint8_t(c);
    plain[c] = charsmap.empty() || charsmap.shortest(&one, &one + 1).consumed == 0;
  }
}

bool HfNormalizer::applyRules(const uint8_t *p, const uint8_t *end, std::vector<uint8_t> &out) const {
  out.clear();
  while (p < end) {
    const uint8_t *q = p;
    while (q < end && plain[*q]) q++;
    out.insert(out.end(), p, q);
    if (q == end) break;
    p = q;
    const Character c = characterAt(p, end);
    uint32_t bytes = c.bytes;
    if (c.codePoint == INVALID || joins(c.codePoint)) return false;
    if (*p == '\r' && p + 1 < end && p[1] == '\n') bytes = 2; // one cluster
    const Charsmap::Match rule = charsmap.shortest(p, p + bytes);
    if (rule.consumed > 0) out.insert(out.end(), rule.text, rule.text + rule.bytes);
    else out.insert(out.end(), p, p + bytes);
    p += bytes;
  }
  return true;
}

/** One part of the text: spaces to marks, a mark in front, cuts. */
void HfNormalizer::marks(const uint8_t *p, const uint8_t *end, bool first, Words &out) const {
  if (p == end) return;
  bool atStart = true, afterMark = false;
  const auto word = [&] {
    out.starts.push_back(uint32_t(out.text.size()));
    atStart = false;
  };
  const auto mark = [&] {
    if (atStart || cut == CUT_MARKS || (cut == CUT_RUNS && !afterMark)) word();
    out.text.insert(out.text.end(), MARK, MARK + 3);
    afterMark = true;
  };
  const bool collapses = collapse == 1 && end - p > 1 && *p == ' ' && p[1] == ' ';
  const bool startsWithMark = isMark(p, end) || (*p == ' ' && spacesToMarks) || collapses;
  if (prependMark) mark();
  else if (!startsWithMark && (scheme == PREPEND_ALWAYS || (scheme == PREPEND_FIRST && first))) mark();
  while (p < end) {
    if (*p == ' ') {
      const uint8_t *q = p;
      while (q < end && *q == ' ') q++;
      const bool run = q - p > 1 && collapse != 0;
      for (size_t i = run ? 1 : size_t(q - p); i > 0; i--) {
        if ((run && collapse == 1) || spacesToMarks) {
          mark();
        } else {
          if (atStart) word();
          out.text.push_back(' ');
          afterMark = false;
        }
      }
      p = q;
    } else if (isMark(p, end)) {
      mark();
      p += 3;
    } else {
      const uint8_t *q = p + 1;
      while (q < end && *q != ' ' && *q != MARK[0]) q++;
      if (atStart) word();
      out.text.insert(out.text.end(), p, q);
      afterMark = false;
      p = q;
    }
  }
}

bool HfNormalizer::run(const uint8_t *p, const uint8_t *end, bool first, Words &out, std::vector<uint8_t> &scratch) const {
  out.text.clear();
  out.starts.clear();
  if (!charsmap.empty()) {
    if (!applyRules(p, end, scratch)) return false;
    p = scratch.data();
    end = p + scratch.size();
  }
  const auto isSpace = [&](const uint8_t *q, uint32_t *bytes) {
    if (*q < 0x80) return *bytes = 1, *q == ' ' || (*q >= 9 && *q <= 13);
    const Character c = characterAt(q, end);
    *bytes = c.bytes;
    return classOf(c.codePoint) == SPACE;
  };
  uint32_t bytes;
  if (stripLeft)
    while (p < end && isSpace(p, &bytes)) p += bytes;
  if (stripRight)
    for (const uint8_t *before; (before = spaceBefore(p, end)) != end;) end = before;
  if (!whitespaceSplit) {
    marks(p, end, first, out);
    return true;
  }
  while (p < end) {
    if (isSpace(p, &bytes)) {
      p += bytes;
      continue;
    }
    const uint8_t *word = p;
    while (p < end && !isSpace(p, &bytes)) p += bytes;
    marks(word, p, first, out);
  }
  return true;
}

} // namespace tokenizer
