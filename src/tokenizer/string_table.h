// Byte strings -> small numbers, by open addressing: the vocabulary of a tokenizer, the words of a corpus.
#pragma once
#include <cstdint>
#include <cstring>
#include <vector>

namespace tokenizer {

inline uint64_t mix(uint64_t a, uint64_t b) {
  const unsigned __int128 product = (unsigned __int128)(a ^ 0x9e3779b97f4a7c15) * (b ^ 0xd6e8feb86659fd93);
  return uint64_t(product) ^ uint64_t(product >> 64);
}

inline uint64_t hashBytes(const uint8_t *p, size_t bytes) {
  uint64_t hash = bytes;
  for (; bytes >= 8; p += 8, bytes -= 8) {
    uint64_t word;
    memcpy(&word, p, 8);
    hash = mix(hash, word);
  }
  uint64_t rest = 0;
  memcpy(&rest, p, bytes);
  return mix(hash, rest);
}

/** Strings in order of arrival, each with a value. */
class StringTable {
public:
  struct Entry {
    uint64_t hash, start;
    uint64_t value;
    uint32_t bytes;
  };

  size_t size() const { return entries.size(); }
  const Entry &entry(size_t i) const { return entries[i]; }
  const uint8_t *text(const Entry &e) const { return arena.data() + e.start; }

  /** Makes room for a number of strings. */
  void reserve(size_t count) {
    size_t wanted = 1024;
    while (wanted <= count * 2) wanted *= 2;
    if (wanted > slots.size()) resize(wanted);
    entries.reserve(count);
  }

  /** The string's value, or null. */
  const uint64_t *find(const uint8_t *p, uint32_t bytes) const {
    if (slots.empty()) return nullptr;
    const uint64_t hash = hashBytes(p, bytes);
    for (size_t slot = hash & mask();; slot = (slot + 1) & mask()) {
      if (slots[slot] == 0) return nullptr;
      const Entry &e = entries[slots[slot] - 1];
      if (same(e, hash, p, bytes)) return &e.value;
    }
  }

  /** The string's value, 0 when it is new. The reference holds until the next call. */
  uint64_t &operator()(const uint8_t *p, uint32_t bytes) {
    if (entries.size() * 2 >= slots.size()) resize(slots.empty() ? 1024 : slots.size() * 2);
    const uint64_t hash = hashBytes(p, bytes);
    size_t slot = hash & mask();
    for (; slots[slot] != 0; slot = (slot + 1) & mask()) {
      Entry &e = entries[slots[slot] - 1];
      if (same(e, hash, p, bytes)) return e.value;
    }
    entries.push_back({hash, arena.size(), 0, bytes});
    arena.insert(arena.end(), p, p + bytes);
    slots[slot] = uint32_t(entries.size());
    return entries.back().value;
  }

private:
  std::vector<uint8_t> arena;
  std::vector<Entry> entries;
  std::vector<uint32_t> slots; // entry number + 1, 0: empty
  size_t mask() const { return slots.size() - 1; }
  bool same(const Entry &e, uint64_t hash, const uint8_t *p, uint32_t bytes) const {
    return e.hash == hash && e.bytes == bytes && memcmp(arena.data() + e.start, p, bytes) == 0;
  }
  void resize(size_t slotCount) {
    slots.assign(slotCount, 0);
    for (size_t i = 0; i < entries.size(); i++) {
      size_t slot = entries[i].hash & mask();
      while (slots[slot] != 0) slot = (slot + 1) & mask();
      slots[slot] = uint32_t(i + 1);
    }
  }
};

} // namespace tokenizer
