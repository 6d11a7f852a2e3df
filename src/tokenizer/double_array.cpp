#include "double_array.h"
#include <algorithm>
#include <cstring>

namespace tokenizer {

constexpr uint32_t LEAF = 0xffffffff;

namespace {

/** Bit i of the result is bit i ^ by of the word; by is below 64. */
uint64_t permuted(uint64_t word, uint32_t by) {
  constexpr uint64_t LOW[6] = {0x5555555555555555, 0x3333333333333333, 0x0f0f0f0f0f0f0f0f,
                               0x00ff00ff00ff00ff, 0x0000ffff0000ffff, 0x00000000ffffffff};
  for (uint32_t bit = 0; bit < 6; bit++)
    if (by >> bit & 1) word = (word & LOW[bit]) << (1u << bit) | (word >> (1u << bit) & LOW[bit]);
  return word;
}

void mark(std::vector<uint64_t> &bits, uint32_t i) { bits[i / 64] |= uint64_t(1) << i % 64; }

/** A key with its first bytes as numbers: most comparisons need no more. */
struct Ordered {
  uint64_t head[2];
  DoubleArray::Key key;
};

Ordered ordered(const DoubleArray::Key &key) {
  uint8_t bytes[16] = {};
  memcpy(bytes, key.start, std::min<size_t>(key.bytes, 16));
  Ordered found{{0, 0}, key};
  for (int i = 0; i < 16; i++) found.head[i / 8] = found.head[i / 8] << 8 | bytes[i];
  return found;
}

bool before(const Ordered &a, const Ordered &b) {
  if (a.head[0] != b.head[0]) return a.head[0] < b.head[0];
  if (a.head[1] != b.head[1]) return a.head[1] < b.head[1];
  const int order = memcmp(a.key.start, b.key.start, std::min(a.key.bytes, b.key.bytes));
  return order != 0 ? order < 0 : a.key.bytes < b.key.bytes;
}

} // namespace

/** A base under which all labels are free. Blocks that were searched in vain are closed, so that building stays linear. */
uint32_t DoubleArray::place(const std::vector<uint8_t> &labels) {
  constexpr uint8_t PATIENCE = 2;
  const size_t blocks = freeInBlock.size();
  while (firstOpen < blocks && freeInBlock[firstOpen] == 0) firstOpen++;
  for (size_t block = firstOpen; block < blocks; block++) {
    if (freeInBlock[block] < labels.size()) continue;
    for (uint32_t word = 0; word < 4; word++) {
      uint64_t blocked = usedBases[block * 4 + word];
      for (size_t i = 0; i < labels.size() && ~blocked != 0; i++)
        blocked |= permuted(taken[block * 4 + (word ^ labels[i] / 64)], labels[i] % 64);
      if (~blocked != 0) return uint32_t(block * 256 + word * 64 + uint32_t(__builtin_ctzll(~blocked)));
    }
    if (++failures[block] >= PATIENCE) freeInBlock[block] = 0;
  }
  freeInBlock.push_back(256);
  failures.push_back(0);
  usedBases.resize(freeInBlock.size() * 4);
  taken.resize(freeInBlock.size() * 4);
  cells.resize((freeInBlock.size() + 1) * 256, Cell{0, 0, 0});
  return uint32_t(blocks * 256);
}

void DoubleArray::build(std::vector<Key> keys) {
  cells.assign(256, Cell{0, 0, 0});
  firstOpen = 0;
  usedBases.clear();
  taken.clear();
  freeInBlock.clear();
  failures.clear();
  std::vector<Ordered> sorted;
  sorted.reserve(keys.size());
  for (const Key &key : keys) sorted.push_back(ordered(key));
  std::stable_sort(sorted.begin(), sorted.end(), before);
  for (size_t i = 0; i < keys.size(); i++) keys[i] = sorted[i].key;
  size_t first = 0;
  while (first < keys.size() && keys[first].bytes == 0) first++;
  filled = first < keys.size();
  place({}); // the block of the root, whose cell 0 no label may take
  freeInBlock[0]--;
  cells[0].label = 511;
  mark(taken, 0);
  std::vector<Range> open{{0, uint32_t(first), uint32_t(keys.size()), 0}};
  std::vector<uint8_t> labels;
  std::vector<uint32_t> starts;
  while (!open.empty()) {
    Range r = open.back();
    open.pop_back();
    while (r.from < r.to && keys[r.from].bytes == r.depth) cells[r.node].value = uint64_t(keys[r.from++].value) + 1;
    if (r.from == r.to) {
      cells[r.node].base = LEAF;
      continue;
    }
    labels.clear();
    starts.clear();
    for (uint32_t i = r.from; i < r.to; i++)
      if (labels.empty() || labels.back() != keys[i].start[r.depth]) {
        labels.push_back(keys[i].start[r.depth]);
        starts.push_back(i);
      }
    const uint32_t base = place(labels);
    mark(usedBases, base);
    cells[r.node].base = base;
    starts.push_back(r.to);
    for (size_t i = 0; i < labels.size(); i++) {
      const uint32_t child = base ^ labels[i];
      cells[child].label = labels[i] + 1u;
      mark(taken, child);
      if (freeInBlock[child / 256] > 0) freeInBlock[child / 256]--;
      open.push_back({child, starts[i], starts[i + 1], r.depth + 1});
    }
  }
  const uint32_t spare = uint32_t(cells.size() - 256); // stays free: no step leads there
  for (Cell &cell : cells)
    if (cell.base == LEAF) cell.base = spare;
}

} // namespace tokenizer
