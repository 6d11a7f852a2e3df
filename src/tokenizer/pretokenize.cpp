#include "pretokenize.h"

namespace tokenizer {

PreTokenizer::PreTokenizer() {
  for (uint32_t c = 0; c < 128; c++) ascii[c] = classOf(c);
}

static const uint8_t *newlines(const uint8_t *p, const uint8_t *end) {
  while (p < end && (*p == '\r' || *p == '\n')) p++;
  return p;
}

/** Letters of a contraction after its apostrophe, in any case; U+017F is a capital-less s. */
static const uint8_t *contraction(const uint8_t *p, const uint8_t *end) {
  if (*p != '\'' || p + 1 >= end) return p;
  const auto lower = [&](int i) { return p + i < end ? p[i] | 32 : 0; };
  const int a = lower(1), b = lower(2);
  if (a == 's' || a == 't' || a == 'm' || a == 'd') return p + 2;
  if ((a == 'r' && b == 'e') || (a == 'v' && b == 'e') || (a == 'l' && b == 'l')) return p + 3;
  if (p[1] == 0xc5 && p + 2 < end && p[2] == 0xbf) return p + 3;
  return p;
}

/** End of the rule's match at p, or p where it does not match. */
const uint8_t *PreTokenizer::match(Rule rule, const uint8_t *p, const uint8_t *end) const {
  const Step first = at(p, end);
  switch (rule.kind) {
  case LETTERS: {
    if (first.characterClass == LETTER) return run(p + first.bytes, end, LETTER);
    if (rule.option == PREFIX_NONE) return p;
    if (rule.option == PREFIX_SPACE && *p != ' ') return p;
    if (first.characterClass == NUMBER || *p == '\r' || *p == '\n') return p;
    const uint8_t *letters = p + first.bytes, *stop = run(letters, end, LETTER);
    return stop > letters ? stop : p;
  }
  case NUMBERS: {
    int32_t count = 0;
    while (p < end && (rule.option == 0 || count < rule.option)) {
      const Step s = at(p, end);
      if (s.characterClass != NUMBER) break;
      p += s.bytes;
      count++;
    }
    return p;
  }
  case OTHERS: {
    const uint8_t *others = (rule.option & SPACE_BEFORE) && *p == ' ' ? p + 1 : p;
    const uint8_t *stop = run(others, end, OTHER);
    if (stop == others) return p;
    return rule.option & NEWLINES_BEHIND ? newlines(stop, end) : stop;
  }
  case NEWLINES: {
    if (first.characterClass != SPACE) return p;
    const uint8_t *stop = run(p, end, SPACE);
    while (stop > p && stop[-1] != '\r' && stop[-1] != '\n') stop--; // bytes behind the last newline are no newlines
    return stop;
  }
  case INNER_SPACES: {
    if (first.characterClass != SPACE) return p;
    const uint8_t *stop = p, *last = p;
    while (stop < end) {
      const Step s = at(stop, end);
      if (s.characterClass != SPACE) return last; // what follows is no space: give one back
      last = stop;
      stop += s.bytes;
    }
    return stop;
  }
  case SPACES:
    return run(p, end, SPACE);
  case CONTRACTIONS: {
    const uint8_t *stop = contraction(p, end);
    for (const uint8_t *q = p + 1; rule.option == 1 && q < stop; q++)
      if (*q < 'a' || *q > 'z') return p;
    return stop;
  }
  case SPACED_NUMBERS: {
    const uint8_t *numbers = *p == ' ' ? p + 1 : p, *stop = run(numbers, end, NUMBER);
    return stop > numbers ? stop : p;
  }
  }
  return p;
}

const uint8_t *PreTokenizer::pieceEnd(const uint8_t *p, const uint8_t *end) const {
  if (rules.empty()) return end;
  for (const Rule rule : rules) {
    const uint8_t *stop = match(rule, p, end);
    if (stop > p) return stop;
  }
  return p + at(p, end).bytes; // rules that do not cover the character
}

} // namespace tokenizer
