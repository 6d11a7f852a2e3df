#include "double_array.h"
#include <algorithm>
#include <cstring>

namespace tokenizer {

constexpr uint32_t LEAF = 0xffffffff;

/** A base under which all labels are free. Blocks that were searched in vain are closed, so that building stays linear. */
uint32_t DoubleArray::place(const std::vector<uint8_t> &labels) {
  constexpr uint8_t PATIENCE = 2;
  const size_t blocks = freeInBlock.size();
  while (firstOpen < blocks && freeInBlock[firstOpen] == 0) firstOpen++;
  for (size_t block = firstOpen; block < blocks; block++) {
    if (freeInBlock[block] < labels.size()) continue;
    uint32_t &first = firstBase[block];
    while (first < 256 && usedBases[block * 256 + first]) first++;
    for (uint32_t low = first; low < 256; low++) {
      const uint32_t base = uint32_t(block * 256 + low);
      if (usedBases[base] || taken[base ^ labels[0]]) continue;
      if (std::all_of(labels.begin(), labels.end(), [&](uint8_t l) { return !taken[base ^ l]; })) return base;
    }
    if (++failures[block] >= PATIENCE) freeInBlock[block] = 0;
  }
  freeInBlock.push_back(256);
  failures.push_back(0);
  firstBase.push_back(0);
  usedBases.resize(freeInBlock.size() * 256);
  taken.resize(freeInBlock.size() * 256);
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
  firstBase.clear();
  std::stable_sort(keys.begin(), keys.end(), [](const Key &a, const Key &b) {
    const int order = memcmp(a.start, b.start, std::min(a.bytes, b.bytes));
    return order != 0 ? order < 0 : a.bytes < b.bytes;
  });
  size_t first = 0;
  while (first < keys.size() && keys[first].bytes == 0) first++;
  filled = first < keys.size();
  place({}); // the block of the root, whose cell 0 no label may take
  freeInBlock[0]--;
  cells[0].label = 511;
  taken[0] = 1;
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
    usedBases[base] = 1;
    cells[r.node].base = base;
    starts.push_back(r.to);
    for (size_t i = 0; i < labels.size(); i++) {
      const uint32_t child = base ^ labels[i];
      cells[child].label = labels[i] + 1u;
      taken[child] = 1;
      if (freeInBlock[child / 256] > 0) freeInBlock[child / 256]--;
      open.push_back({child, starts[i], starts[i + 1], r.depth + 1});
    }
  }
  const uint32_t spare = uint32_t(cells.size() - 256); // stays free: no step leads there
  for (Cell &cell : cells)
    if (cell.base == LEAF) cell.base = spare;
}

} // namespace tokenizer
