// The vocabulary of a tokenizer.json, in one pass over its text.
#include "vocabulary.h"
#include <charconv>
#include <exception>
#include <string_view>
#include <system_error>

namespace tokenizer {

namespace {

struct Declined : std::exception {};

bool isSpace(uint8_t c) { return c == ' ' || c == '\n' || c == '\r' || c == '\t'; }
bool isDigit(uint8_t c) { return c >= '0' && c <= '9'; }

/** Walks JSON; what it does not expect is declined. */
class JsonReader {
public:
  JsonReader(const uint8_t *p, size_t bytes) : start(p), p(p), end(p + bytes) {}
  uint32_t here() const { return uint32_t(p - start); }
  uint8_t peek() {
    while (p < end && isSpace(*p)) p++;
    if (p == end) throw Declined();
    return *p;
  }
  bool take(uint8_t c) {
    if (peek() != c) return false;
    p++;
    return true;
  }
  void expect(uint8_t c) {
    if (!take(c)) throw Declined();
  }
  void finish() {
    while (p < end && isSpace(*p)) p++;
    if (p < end) throw Declined();
  }

  /** Calls entry(key) at each value. Keys with escapes are declined. */
  template <class Entry> void object(Entry entry) {
    expect('{');
    if (take('}')) return;
    do {
      expect('"');
      const uint8_t *key = p;
      while (p < end && *p != '"' && *p != '\\') p++;
      if (p == end || *p == '\\') throw Declined();
      const std::string_view name(reinterpret_cast<const char *>(key), size_t(p++ - key));
      expect(':');
      entry(name);
    } while (take(','));
    expect('}');
  }
  /** Calls entry() at each value. */
  template <class Entry> void array(Entry entry) {
    expect('[');
    if (take(']')) return;
    do entry();
    while (take(','));
    expect(']');
  }

  /** Appends a string's characters. */
  void string(std::vector<uint8_t> &out) {
    expect('"');
    for (;;) {
      const uint8_t *from = p;
      while (p < end && *p != '"' && *p != '\\' && *p >= 0x20) p++;
      out.insert(out.end(), from, p);
      if (p == end || *p < 0x20) throw Declined();
      if (*p++ == '"') return;
      escape(out);
    }
  }

  /** A number without sign, point or exponent, below ID_LIMIT. */
  int32_t id() {
    int32_t value = 0;
    peek();
    const uint8_t *from = p;
    for (; p < end && isDigit(*p); p++) {
      value = value * 10 + (*p - '0');
      if (value >= ID_LIMIT) throw Declined();
    }
    if (p == from || (*from == '0' && p - from > 1)) throw Declined();
    return value;
  }

  double number() {
    peek();
    const uint8_t *from = p;
    if (*p == '-') p++;
    if (p < end && *p == '0') p++;
    else digits();
    if (p < end && *p == '.') {
      p++;
      digits();
    }
    if (p < end && (*p == 'e' || *p == 'E')) {
      p++;
      if (p < end && (*p == '+' || *p == '-')) p++;
      digits();
    }
    double value = 0;
    const auto *first = reinterpret_cast<const char *>(from), *last = reinterpret_cast<const char *>(p);
    if (std::from_chars(first, last, value).ec != std::errc()) throw Declined();
    return value;
  }

  /** Moves over a value. What it lets pass is left to TypeScript. */
  void skip() {
    size_t depth = 0;
    do {
      const uint8_t c = peek();
      if (c == '"') skipString();
      else if (c == '{' || c == '[') depth++, p++;
      else if (depth > 0 && (c == '}' || c == ']')) depth--, p++;
      else if (depth > 0 && (c == ',' || c == ':')) p++;
      else skipWord();
    } while (depth > 0);
  }

private:
  const uint8_t *start, *p, *end;

  void digits() {
    const uint8_t *from = p;
    while (p < end && isDigit(*p)) p++;
    if (p == from) throw Declined();
  }
  void skipString() {
    for (p++; p < end && *p != '"'; p++)
      if (*p == '\\') p++;
    if (p >= end) throw Declined();
    p++;
  }
  void skipWord() {
    const uint8_t *from = p;
    while (p < end && !isSpace(*p) && std::string_view(",:]}[{\"").find(char(*p)) == std::string_view::npos) p++;
    if (p == from) throw Declined();
  }
  void escape(std::vector<uint8_t> &out) {
    if (p == end) throw Declined();
    switch (*p++) {
    case 'u': return unicode(out);
    case 'b': return out.push_back('\b');
    case 'f': return out.push_back('\f');
    case 'n': return out.push_back('\n');
    case 'r': return out.push_back('\r');
    case 't': return out.push_back('\t');
    case '"':
    case '\\':
    case '/': return out.push_back(p[-1]);
    default: throw Declined();
    }
  }
  uint32_t unit() {
    uint32_t value = 0;
    if (end - p < 4) throw Declined();
    const auto *first = reinterpret_cast<const char *>(p), *last = first + 4;
    if (*p == '-' || std::from_chars(first, last, value, 16).ptr != last) throw Declined();
    p += 4;
    return value;
  }
  void unicode(std::vector<uint8_t> &out) {
    uint32_t c = unit();
    if (c >= 0xd800 && c < 0xe000) { // half of a pair: the other half must follow
      if (c >= 0xdc00 || end - p < 6 || *p++ != '\\' || *p++ != 'u') throw Declined();
      const uint32_t low = unit();
      if (low < 0xdc00 || low >= 0xe000) throw Declined();
      c = 0x10000 + ((c - 0xd800) << 10) + (low - 0xdc00);
    }
    uint8_t bytes[4];
    out.insert(out.end(), bytes, bytes + writeCharacter(c, bytes));
  }
};

void readIds(JsonReader &json, Vocabulary &vocabulary) {
  std::vector<uint8_t> piece;
  std::vector<bool> used;
  json.expect('{');
  if (json.take('}')) return;
  do {
    piece.clear();
    json.string(piece);
    json.expect(':');
    const int32_t id = json.id();
    if (size_t(id) >= used.size()) used.resize(size_t(id) * 2 + 1024);
    if (used[size_t(id)] || !vocabulary.add(piece.data(), piece.size(), id)) throw Declined();
    used[size_t(id)] = true;
  } while (json.take(','));
  json.expect('}');
}

void readScores(JsonReader &json, Vocabulary &vocabulary) {
  std::vector<uint8_t> piece;
  json.array([&] {
    piece.clear();
    json.expect('[');
    json.string(piece);
    json.expect(',');
    vocabulary.scores.push_back(json.number());
    json.expect(']');
    const size_t id = vocabulary.scores.size() - 1;
    if (id >= size_t(ID_LIMIT) || !vocabulary.add(piece.data(), piece.size(), int32_t(id))) throw Declined();
  });
}

/** Pairs of strings, or in older files strings with a space between the two. */
void readMerges(JsonReader &json, Vocabulary &vocabulary) {
  std::vector<uint8_t> both;
  json.array([&] {
    both.clear();
    size_t left = 0;
    if (json.take('[')) {
      json.string(both);
      left = both.size();
      json.expect(',');
      json.string(both);
      json.expect(']');
    } else {
      json.string(both);
      while (left < both.size() && both[left] != ' ') left++;
      if (left == both.size()) throw Declined();
      both.erase(both.begin() + ptrdiff_t(left));
      for (size_t i = left; i < both.size(); i++)
        if (both[i] == ' ') throw Declined();
    }
    if (!vocabulary.addMerge(both.data(), left, both.size() - left)) throw Declined();
  });
}

} // namespace

bool readTokenizerJson(const uint8_t *p, size_t bytes, Vocabulary &vocabulary, uint32_t spans[4]) {
  JsonReader json(p, bytes);
  vocabulary.pieces.reserve(bytes / 48);
  bool found = false;
  for (int i = 0; i < 4; i++) spans[i] = 0;
  const auto once = [](bool &seen) {
    if (seen) throw Declined();
    seen = true;
  };
  try {
    json.object([&](std::string_view key) {
      if (key != "model") return json.skip();
      once(found);
      json.object([&](std::string_view part) {
        if (part != "vocab" && part != "merges") return json.skip();
        uint32_t *span = spans + (part == "vocab" ? 0 : 2);
        bool seen = span[1] != 0;
        once(seen);
        json.peek();
        span[0] = json.here();
        if (part == "merges") readMerges(json, vocabulary);
        else if (json.peek() == '[') readScores(json, vocabulary);
        else readIds(json, vocabulary);
        span[1] = json.here();
      });
    });
    json.finish();
  } catch (const Declined &) {
    return false;
  }
  return spans[1] != 0;
}

} // namespace tokenizer
