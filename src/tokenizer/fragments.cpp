#include "fragments.h"
#include "script_table.h"
#include "threads.h"
#include "unicode.h"
#include <algorithm>

namespace tokenizer {

enum Script : uint8_t { COMMON = 0, INHERITED = 1, ANY = 255 };
constexpr uint32_t SPACE_MARK = 0x2581; // ▁
constexpr uint8_t CUT = 0xff;           // in a line: never part of UTF-8

FragmentCounter::FragmentCounter() : scripts(0x110000) {
  const uint32_t *change = SCRIPT_CHANGES, *last = SCRIPT_CHANGES + sizeof(SCRIPT_CHANGES) / sizeof(uint32_t);
  uint8_t now = COMMON;
  for (uint32_t c = 0; c < scripts.size(); c++) {
    if (change < last && *change >> 8 == c) now = uint8_t(*change++);
    scripts[c] = now;
  }
}

void FragmentCounter::addSymbol(std::string symbol) {
  auto &symbols = symbolsByByte[uint8_t(symbol[0])];
  symbols.push_back(std::move(symbol));
  std::sort(symbols.begin(), symbols.end(), [](auto &a, auto &b) { return a.size() > b.size(); });
}

/** Bytes of the symbol at p, 0: none. */
size_t FragmentCounter::symbolAt(const uint8_t *p, const uint8_t *end) const {
  for (const std::string &symbol : symbolsByByte[*p])
    if (symbol.size() <= size_t(end - p) && memcmp(p, symbol.data(), symbol.size()) == 0) return symbol.size();
  return 0;
}

void FragmentCounter::cut(const std::vector<uint8_t> &line, StringTable &words) const {
  const uint8_t *p = line.data(), *end = p + line.size(), *start = p;
  uint8_t before = ANY;
  const auto close = [&](const uint8_t *at) {
    if (at > start) words(start, uint32_t(at - start))++;
    start = at;
  };
  const auto isDigit = [](uint32_t c) { return (c >= '0' && c <= '9') || (c >= 0xff10 && c <= 0xff19); };
  while (p < end) {
    if (*p == CUT) {
      close(p++);
      start = p;
      before = ANY;
      continue;
    }
    const Character c = characterAt(p, end);
    if (c.codePoint == SPACE_MARK) {
      if (options & CUT_SPACES) close(p);
      before = ANY;
    } else {
      const bool digit = isDigit(c.codePoint);
      uint8_t script = c.codePoint == INVALID ? uint8_t(COMMON) : scripts[c.codePoint];
      if (script == INHERITED) script = before;
      if (digit && !(options & CUT_NUMBERS)) script = ANY;
      const bool changes = script != ANY && before != ANY && script != before;
      if ((digit && (options & CUT_DIGITS)) || (changes && (options & CUT_SCRIPTS))) close(p);
      before = script;
      if (digit && (options & CUT_DIGITS)) close(p + c.bytes);
    }
    p += c.bytes;
  }
  close(end);
}

void FragmentCounter::countLine(const uint8_t *p, const uint8_t *end, std::vector<uint8_t> &line,
                                StringTable &words) const {
  line.clear();
  normalizer.normalize(p, end, line, [&](const uint8_t *at) {
    const size_t bytes = symbolAt(at, end);
    if (bytes > 0) line.push_back(CUT);
    return bytes;
  });
  cut(line, words);
}

void FragmentCounter::feed(const uint8_t *bytes, const uint32_t *offsets, uint32_t count, int threads) {
  while (int(counted.size()) < threads) counted.emplace_back();
  std::atomic<uint64_t> next{0};
  inThreads(threads, [&](int thread) {
    std::vector<uint8_t> line;
    for (uint64_t i; (i = next.fetch_add(1)) < count;) {
      const uint8_t *end = bytes + offsets[i + 1];
      for (const uint8_t *p = bytes + offsets[i]; p < end;) {
        const void *found = memchr(p, '\n', size_t(end - p));
        const uint8_t *stop = found ? static_cast<const uint8_t *>(found) : end;
        countLine(p, stop, line, counted[thread]);
        p = stop + 1;
      }
    }
  });
}

StringTable FragmentCounter::take() { return merged(counted); }

StringTable merged(std::vector<StringTable> &tables) {
  StringTable all;
  std::sort(tables.begin(), tables.end(), [](auto &a, auto &b) { return a.size() > b.size(); });
  for (StringTable &table : tables) {
    if (all.size() == 0) std::swap(all, table);
    for (size_t i = 0; i < table.size(); i++) {
      const auto &word = table.entry(i);
      all(table.text(word), word.bytes) += word.value;
    }
    table = {};
  }
  return all;
}

} // namespace tokenizer
