#include "word_counter.h"
#include "script_table.h"
#include "threads.h"
#include <algorithm>

namespace tokenizer {

enum Script : uint8_t { COMMON = 0, INHERITED = 1, ANY = 255 };
constexpr uint32_t SPACE_MARK = 0x2581; // ▁

WordCounter::WordCounter() : scripts(0x110000) {
  const uint32_t *change = SCRIPT_CHANGES, *last = SCRIPT_CHANGES + sizeof(SCRIPT_CHANGES) / sizeof(uint32_t);
  uint8_t now = COMMON;
  for (uint32_t c = 0; c < scripts.size(); c++) {
    if (change < last && *change >> 8 == c) now = uint8_t(*change++);
    scripts[c] = now;
  }
}

void WordCounter::feed(const uint8_t *bytes, const uint32_t *offsets, uint32_t count, int threads) {
  while (int(counted.size()) < threads) counted.emplace_back();
  std::atomic<uint64_t> next{0};
  inThreads(threads, [&](int thread) {
    std::vector<uint8_t> normal;
    for (uint64_t i; (i = next.fetch_add(1)) < count;)
      countText(bytes + offsets[i], bytes + offsets[i + 1], normal, counted[thread]);
  });
}

void WordCounter::countText(const uint8_t *p, const uint8_t *end, std::vector<uint8_t> &normal,
                            StringTable &words) const {
  const bool byLine = preTokenizer.rules.empty();
  while (p < end) {
    const void *newline = byLine ? memchr(p, '\n', size_t(end - p)) : nullptr;
    const uint8_t *stop = newline ? static_cast<const uint8_t *>(newline) : end;
    if (normalizer.changesNothing()) {
      cutBySymbols(p, stop, words);
    } else {
      normal.clear();
      normalizer.normalize(p, stop, normal);
      cutBySymbols(normal.data(), normal.data() + normal.size(), words);
    }
    p = stop < end ? stop + 1 : end;
  }
}

/** Text outside of symbols, which stand between two marks; raw text has none. */
void WordCounter::cutBySymbols(const uint8_t *p, const uint8_t *end, StringTable &words) const {
  const auto cut = [&](const uint8_t *from, const uint8_t *to) {
    if (preTokenizer.rules.empty()) cutByScript(from, to, words);
    else cutByRules(from, to, words);
  };
  if (normalizer.changesNothing()) return cut(p, end);
  for (bool isSymbol = false; p < end; isSymbol = !isSymbol) {
    const uint8_t *stop = std::find(p, end, SYMBOL_MARK);
    if (!isSymbol) cut(p, stop);
    p = stop < end ? stop + 1 : end;
  }
}

void WordCounter::cutByRules(const uint8_t *p, const uint8_t *end, StringTable &words) const {
  while (p < end) {
    const uint8_t *stop = preTokenizer.pieceEnd(p, end);
    words(p, uint32_t(stop - p))++;
    p = stop;
  }
}

/** A space belongs to the word behind it, a combining mark to the writing system before it. */
void WordCounter::cutByScript(const uint8_t *p, const uint8_t *end, StringTable &words) const {
  const uint8_t *start = p;
  uint8_t before = ANY;
  const auto close = [&](const uint8_t *at) {
    if (at > start) words(start, uint32_t(at - start))++;
    start = at;
  };
  while (p < end) {
    const Character c = characterAt(p, end);
    if (c.codePoint == SPACE_MARK) {
      if (cuts & CUT_SPACES) close(p);
      before = ANY;
    } else {
      const bool digit = (c.codePoint >= '0' && c.codePoint <= '9') || (c.codePoint >= 0xff10 && c.codePoint <= 0xff19);
      uint8_t script = c.codePoint == INVALID ? uint8_t(COMMON) : scripts[c.codePoint];
      if (script == INHERITED) script = before;
      if (digit && !(cuts & CUT_NUMBERS)) script = ANY;
      const bool changes = script != ANY && before != ANY && script != before;
      const bool alone = digit && (cuts & CUT_DIGITS);
      if (alone || (changes && (cuts & CUT_SCRIPTS))) close(p);
      if (alone) close(p + c.bytes);
      before = script;
    }
    p += c.bytes;
  }
  close(end);
}

uint32_t byteCharacter(uint8_t byte) {
  const auto printable = [](uint32_t b) { return (b > ' ' && b < 0x7f) || (b > 0xa0 && b != 0xad); };
  if (printable(byte)) return byte;
  uint32_t others = 0; // the others follow Latin-1 in order
  for (uint32_t b = 0; b < byte; b++) others += !printable(b);
  return 256 + others;
}

static StringTable spelledInBytes(const StringTable &words) {
  StringTable spelled;
  std::vector<uint8_t> text;
  for (size_t i = 0; i < words.size(); i++) {
    const auto &word = words.entry(i);
    text.resize(2 * size_t(word.bytes));
    uint32_t bytes = 0;
    for (uint32_t k = 0; k < word.bytes; k++)
      bytes += writeCharacter(byteCharacter(words.text(word)[k]), &text[bytes]);
    spelled(text.data(), bytes) = word.value;
  }
  return spelled;
}

StringTable WordCounter::take() {
  StringTable all;
  std::sort(counted.begin(), counted.end(), [](auto &a, auto &b) { return a.size() > b.size(); });
  for (StringTable &table : counted) {
    if (all.size() == 0) std::swap(all, table);
    for (size_t i = 0; i < table.size(); i++) {
      const auto &word = table.entry(i);
      all(table.text(word), word.bytes) += word.value;
    }
    table = {};
  }
  return cuts & BYTE_LEVEL ? spelledInBytes(all) : all;
}

} // namespace tokenizer
