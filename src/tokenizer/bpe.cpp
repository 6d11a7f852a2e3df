#include "bpe.h"
#include <algorithm>

namespace tokenizer {

/** Pieces up to this many symbols merge by scanning, longer ones by a heap. */
constexpr int FEW = 32;

/** Value of an upper-case hexadecimal digit: byte tokens in lower case do not count. */
static int digit(uint8_t c) { return c >= '0' && c <= '9' ? c - '0' : c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1; }

Bpe::Bpe() { std::fill(byteIds, byteIds + 256, NO_ID); }

/** The byte that GPT-2 writes as this character, or -1. */
static int spelledByte(uint32_t c) {
  if ((c >= 0x21 && c <= 0x7e) || (c >= 0xa1 && c <= 0xff && c != 0xad)) return int(c);
  if (c < 256 || c >= 256 + 68) return -1;
  const int n = int(c) - 256; // the others in order: 0-32, 127-160, 173
  return n < 33 ? n : n < 67 ? n + 94 : 173;
}

/** The bytes that a piece spells, or none where a character of it stands for no byte. */
static std::vector<uint8_t> spelledBytes(const uint8_t *p, uint32_t bytes) {
  std::vector<uint8_t> spelled;
  for (const uint8_t *end = p + bytes; p < end;) {
    const Character c = characterAt(p, end);
    const int byte = c.codePoint == INVALID ? -1 : spelledByte(c.codePoint);
    if (byte < 0) return {};
    spelled.push_back(uint8_t(byte));
    p += c.bytes;
  }
  return spelled;
}

void Bpe::open(const Vocabulary &vocabulary, const BpeOptions &given) {
  options = given;
  if (options.ignoreMerges && !options.byteLevel) pieces = vocabulary.pieces;
  for (size_t i = 0; i < vocabulary.pieces.size(); i++) {
    const auto &entry = vocabulary.pieces.entry(i);
    addSymbol(vocabulary.pieces.text(entry), entry.bytes, int32_t(entry.value));
  }
  reserveMerges(vocabulary.merges.size());
  uint32_t rank = 0;
  for (const auto &join : vocabulary.merges) addMerge(join.left, join.right, rank++, join.joined);
}

void Bpe::addPiece(const uint8_t *p, uint32_t bytes, int32_t id) {
  pieces(p, bytes) = uint64_t(uint32_t(id));
  addSymbol(p, bytes, id);
}

void Bpe::addSymbol(const uint8_t *p, uint32_t bytes, int32_t id) {
  if (options.byteLevel) {
    const bool single = bytes <= 2;
    if (!single && !options.ignoreMerges) return;
    const auto spelled = spelledBytes(p, bytes);
    if (spelled.size() == 1) byteIds[spelled[0]] = id;
    if (!spelled.empty() && options.ignoreMerges) wholes(spelled.data(), uint32_t(spelled.size())) = uint64_t(uint32_t(id));
    return;
  }
  if (bytes == 0) return;
  const Character c = characterAt(p, p + bytes);
  if (c.codePoint != INVALID && c.bytes == bytes) {
    auto &page = characters[c.codePoint >> 8];
    if (!page) {
      page.reset(new int32_t[256]);
      std::fill(page.get(), page.get() + 256, NO_ID);
    }
    page[c.codePoint & 255] = id;
  }
  if (bytes == 6 && memcmp(p, "<0x", 3) == 0 && p[5] == '>') {
    const int high = digit(p[3]), low = digit(p[4]);
    if (high >= 0 && low >= 0) byteIds[16 * high + low] = id;
  }
}

int32_t Bpe::idOf(const uint8_t *p, uint32_t bytes) const {
  const uint64_t *id = pieces.find(p, bytes);
  return id ? int32_t(*id) : NO_ID;
}

void Bpe::reserveMerges(size_t count) {
  size_t slots = 16;
  while (slots < count * 2) slots *= 2;
  merges.assign(slots, {0, NO_MERGE, NO_ID});
}

static uint64_t pairOf(int32_t left, int32_t right) { return uint64_t(uint32_t(left)) << 32 | uint32_t(right); }
static size_t hashPair(uint64_t pair) { return size_t((pair ^ pair >> 29) * 0x9e3779b97f4a7c15 >> 20); }

void Bpe::addMerge(int32_t left, int32_t right, uint32_t rank, int32_t id) {
  const uint64_t pair = pairOf(left, right);
  size_t slot = hashPair(pair) & (merges.size() - 1);
  while (merges[slot].rank != NO_MERGE && merges[slot].pair != pair) slot = (slot + 1) & (merges.size() - 1);
  merges[slot] = {pair, rank, id};
}

const Merge *Bpe::find(int32_t left, int32_t right) const {
  const uint64_t pair = pairOf(left, right);
  for (size_t slot = hashPair(pair) & (merges.size() - 1);; slot = (slot + 1) & (merges.size() - 1)) {
    const Merge &m = merges[slot];
    if (m.rank == NO_MERGE) return nullptr;
    if (m.pair == pair) return &m;
  }
}

/** One id per character; characters without one become bytes or unknowns. */
int32_t *Bpe::symbols(const uint8_t *p, const uint8_t *end, int32_t *out) const {
  bool unknown = false; // Hugging Face writes an unknown when the next known character comes
  while (p < end) {
    const Character c = characterAt(p, end);
    const uint8_t *next = p + c.bytes;
    const int32_t id = characterId(c.codePoint);
    if (id != NO_ID) {
      if (unknown) *out++ = options.unknown;
      unknown = false;
      *out++ = id;
    } else if (options.byteFallback && std::all_of(p, next, [&](uint8_t byte) { return byteIds[byte] != NO_ID; })) {
      for (const uint8_t *byte = p; byte < next; byte++) *out++ = byteIds[*byte];
    } else if (options.unknown != NO_ID) {
      if (unknown && !options.fuseUnknown) *out++ = options.unknown;
      unknown = true;
    }
    p = next;
  }
  if (unknown) *out++ = options.unknown;
  return out;
}

/** One id per byte. */
int32_t *Bpe::byteSymbols(const uint8_t *p, const uint8_t *end, int32_t *out) const {
  bool unknown = false;
  for (; p < end; p++) {
    const int32_t id = byteIds[*p];
    if (id != NO_ID) *out++ = id;
    else if (options.unknown != NO_ID && !(unknown && options.fuseUnknown)) *out++ = options.unknown;
    unknown = id == NO_ID;
  }
  return out;
}

int32_t *Bpe::mergeFew(int32_t *ids, int32_t *end) const {
  const Merge *found[FEW];
  int count = int(end - ids);
  for (int i = 0; i + 1 < count; i++) found[i] = find(ids[i], ids[i + 1]);
  while (count > 1) {
    int best = -1;
    for (int i = 0; i + 1 < count; i++)
      if (found[i] && (best < 0 || found[i]->rank < found[best]->rank)) best = i;
    if (best < 0) break;
    ids[best] = found[best]->id;
    count--;
    for (int i = best + 1; i < count; i++) ids[i] = ids[i + 1];
    for (int i = best + 1; i + 1 < count; i++) found[i] = found[i + 1];
    if (best > 0) found[best - 1] = find(ids[best - 1], ids[best]);
    if (best + 1 < count) found[best] = find(ids[best], ids[best + 1]);
  }
  return ids + count;
}

int32_t *Bpe::mergeMany(int32_t *ids, int32_t *end, BpeScratch &s) const {
  const uint32_t count = uint32_t(end - ids), none = count;
  s.next.resize(count);
  s.previous.resize(count);
  s.heap.clear();
  for (uint32_t i = 0; i < count; i++) {
    s.next[i] = i + 1;
    s.previous[i] = i == 0 ? none : i - 1;
    if (i + 1 < count)
      if (const Merge *m = find(ids[i], ids[i + 1])) s.heap.push_back({m->rank, i, m->id});
  }
  std::make_heap(s.heap.begin(), s.heap.end());
  const auto push = [&](uint32_t left, uint32_t right) {
    if (const Merge *m = find(ids[left], ids[right])) {
      s.heap.push_back({m->rank, left, m->id});
      std::push_heap(s.heap.begin(), s.heap.end());
    }
  };
  while (!s.heap.empty()) {
    const BpeScratch::Candidate c = s.heap.front();
    std::pop_heap(s.heap.begin(), s.heap.end());
    s.heap.pop_back();
    if (ids[c.position] == NO_ID || s.next[c.position] == none) continue;
    const uint32_t right = s.next[c.position];
    const Merge *m = find(ids[c.position], ids[right]);
    if (!m || m->id != c.id) continue; // one of the two has merged since
    ids[c.position] = c.id;
    ids[right] = NO_ID;
    const uint32_t after = s.next[right];
    s.next[c.position] = after;
    if (after != none) s.previous[after] = c.position;
    if (s.previous[c.position] != none) push(s.previous[c.position], c.position);
    if (after != none) push(c.position, after);
  }
  return std::remove(ids, end, NO_ID);
}

int32_t *Bpe::merge(int32_t *ids, int32_t *end, BpeScratch &scratch) const {
  return end - ids <= FEW ? mergeFew(ids, end) : mergeMany(ids, end, scratch);
}

int32_t *Bpe::encode(const uint8_t *p, const uint8_t *end, int32_t *out, BpeScratch &scratch) const {
  if (options.ignoreMerges) {
    const uint64_t *id = (options.byteLevel ? wholes : pieces).find(p, uint32_t(end - p));
    if (id) {
      *out = int32_t(*id);
      return out + 1;
    }
  }
  return merge(out, options.byteLevel ? byteSymbols(p, end, out) : symbols(p, end, out), scratch);
}

} // namespace tokenizer
