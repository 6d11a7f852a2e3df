#include "hf_normalizer.h"
#include "joining_table.h"
#include <algorithm>

namespace tokenizer {

namespace {

constexpr ptrdiff_t SHORT_CLUSTER = 6; // bytes
constexpr uint32_t ZWJ = 0x200d;

/** Whether a character may be part of a cluster of several. */
bool joins(uint32_t codePoint) {
  if (codePoint == INVALID) return false;
  if (codePoint == 0xe33 || codePoint == 0xeb3) return true; // letters that join what is before them
  const uint32_t *last = JOINING_BOUNDS + sizeof(JOINING_BOUNDS) / sizeof(uint32_t);
  return (std::upper_bound(JOINING_BOUNDS, last, codePoint) - JOINING_BOUNDS) % 2 == 1;
}

/** How a character takes part in clusters (UAX 29), as far as it is simple. */
enum Joint {
  STARTS,   // a cluster, whatever is before
  EXTENDS,  // the cluster before it
  BREAKS,   // before and after it
  PREPENDS, // joins what follows
  UNSURE,
};

Joint jointOf(uint32_t c) {
  const auto within = [c](uint32_t first, uint32_t last) { return c >= first && c <= last; };
  if (c < 0x20 || within(0x7f, 0x9f) || c == 0xad || c == 0x61c || c == 0x200b || within(0x200e, 0x200f) ||
      within(0x2028, 0x202e) || within(0x2060, 0x206f) || c == 0xfeff)
    return BREAKS;
  if (within(0x600, 0x605) || c == 0x6dd || c == 0x70f || within(0x890, 0x891) || c == 0x8e2 || c == 0xd4e ||
      c == 0x110bd || c == 0x110cd || within(0x111c2, 0x111c3) || c == 0x1193f || c == 0x11941 || c == 0x11a3a ||
      within(0x11a84, 0x11a89) || c == 0x11d46 || c == 0x11f02)
    return PREPENDS;
  if (!joins(c) || within(0x1f1e6, 0x1f1ff)) return STARTS;
  const bool extends = c < 0x800 || within(0x1ab0, 0x1ace) || within(0x1dc0, 0x1dff) || within(0x200c, ZWJ) ||
                       within(0x20d0, 0x20f0) || within(0x3099, 0x309a) || within(0xfe00, 0xfe0f) ||
                       within(0xfe20, 0xfe2f) || within(0x1f3fb, 0x1f3ff);
  return extends ? EXTENDS : UNSURE;
}

/** Pictographs of less than three bytes: a joiner ties them to another. */
bool isPictograph(uint32_t c) { return c == 0xa9 || c == 0xae; }

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

/** The rule of a character, or the character. */
void HfNormalizer::applyRule(const uint8_t *p, const uint8_t *end, std::vector<uint8_t> &out) const {
  const Charsmap::Match rule = charsmap.shortest(p, end);
  if (rule.consumed > 0) out.insert(out.end(), rule.text, rule.text + rule.bytes);
  else out.insert(out.end(), p, end);
}

/** As pipeline/normalizers.ts: the rule of a cluster below six bytes replaces all of it, else character by character. */
void HfNormalizer::applyCluster(const uint8_t *p, const uint8_t *end, std::vector<uint8_t> &out) const {
  if (end - p < SHORT_CLUSTER && charsmap.shortest(p, end).consumed > 0) return applyRule(p, end, out);
  while (p < end) {
    const uint8_t *next = p + characterAt(p, end).bytes;
    applyRule(p, next, out);
    p = next;
  }
}

/**
 * A character with those that may join it. Where none is below three bytes, no cluster is short and it does not matter
 * where they end. False: where they end matters and is not simple.
 */
bool HfNormalizer::applyRun(const uint8_t *p, const uint8_t *end, std::vector<uint8_t> &out) const {
  bool wide = true, simple = true;
  for (const uint8_t *q = p; q < end;) {
    const Character c = characterAt(q, end);
    const Joint joint = jointOf(c.codePoint);
    if (joint == PREPENDS) return false;
    if (joint == UNSURE || (c.codePoint == ZWJ && isPictograph(characterAt(p, end).codePoint))) simple = false;
    wide = wide && c.bytes >= 3;
    q += c.bytes;
  }
  if (!wide && !simple) return false;
  while (p < end) {
    const Character first = characterAt(p, end);
    const uint8_t *stop = p + first.bytes;
    if (!wide && jointOf(first.codePoint) != BREAKS)
      for (Character c; stop < end && jointOf((c = characterAt(stop, end)).codePoint) == EXTENDS;) stop += c.bytes;
    applyCluster(p, stop, out);
    p = stop;
  }
  return true;
}

bool HfNormalizer::applyRules(const uint8_t *p, const uint8_t *end, std::vector<uint8_t> &out) const {
  out.clear();
  while (p < end) {
    const uint8_t *q = p;
    while (q < end && plain[*q]) q++;
    if (p < q && q < end && joins(characterAt(q, end).codePoint)) q--; // what it may join
    out.insert(out.end(), p, q);
    if (q == end) break;
    p = q;
    if (*p == '\r' && p + 1 < end && p[1] == '\n') {
      applyCluster(p, p + 2, out);
      p += 2;
      continue;
    }
    Character c = characterAt(p, end);
    if (c.codePoint == INVALID) return false;
    do q += c.bytes;
    while (q < end && (c = characterAt(q, end)).codePoint != INVALID && joins(c.codePoint));
    if (!applyRun(p, q, out)) return false;
    p = q;
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
