// Byte strings -> small numbers, walked byte by byte: a trie as a double array.
#pragma once
#include <cstddef>
#include <cstdint>
#include <vector>

namespace tokenizer {

class DoubleArray {
public:
  struct Key {
    const uint8_t *start;
    uint32_t bytes;
    int32_t value; // at least 0
  };

  /** Of equal keys the last one counts; empty keys do not. */
  void build(std::vector<Key> keys);
  bool empty() const { return !filled; }

  /** State of a walk: begin with {}. */
  struct Walk {
    uint32_t node = 0;
  };
  /** Follows a byte; false: no key goes on like this. */
  bool step(Walk &walk, uint8_t byte) const {
    const uint32_t next = cells[walk.node].base ^ byte;
    if (cells[next].label != byte + 1u) return false;
    walk.node = next;
    return true;
  }
  /** Value of the key that ends here, or -1. */
  int32_t value(Walk walk) const { return int32_t(cells[walk.node].value) - 1; }

  /** Bytes of the longest key at p, 0 for none. */
  uint32_t longest(const uint8_t *p, const uint8_t *end) const {
    Walk walk;
    uint32_t found = 0;
    for (const uint8_t *q = p; q < end && step(walk, *q);) {
      q++;
      if (value(walk) >= 0) found = uint32_t(q - p);
    }
    return found;
  }

private:
  struct Cell {
    uint64_t base : 32;
    uint64_t label : 9;  // byte + 1; 0: free
    uint64_t value : 23; // + 1
  };
  bool filled = false;
  std::vector<Cell> cells = std::vector<Cell>(512, Cell{0, 0, 0}); // whole blocks of 256, one to spare

  struct Range {
    uint32_t node, from, to, depth;
  };
  size_t firstOpen = 0;              // blocks before are closed
  std::vector<uint64_t> taken;       // bits: cells that have a label
  std::vector<uint64_t> usedBases;   // bits: no two nodes share a base: the label alone then says whose child a cell is
  std::vector<uint16_t> freeInBlock; // cells left per block; 0: closed
  std::vector<uint8_t> failures;     // searches in vain per block
  uint32_t place(const std::vector<uint8_t> &labels);
};

} // namespace tokenizer
