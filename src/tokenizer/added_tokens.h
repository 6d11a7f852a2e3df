// Finds added tokens (special tokens, sentinels) in text before anything else looks at it: leftmost, then longest.
#pragma once
#include "unicode.h"
#include <cstddef>
#include <vector>

namespace tokenizer {

enum AddedTokenFlag : int32_t { STRIP_LEFT = 1, STRIP_RIGHT = 2, SPECIAL = 4 };

class AddedTokens {
public:
  struct Match {
    const uint8_t *start, *end; // start == nullptr: none
    int32_t id;
  };

  AddedTokens() { nodes.emplace_back(); }
  void add(const uint8_t *p, size_t bytes, int32_t id, int32_t flags);
  bool empty() const { return nodes.size() == 1; }
  /** First match in [p, end), spaces that it strips included. skipSpecial: special tokens are ordinary text. */
  Match find(const uint8_t *p, const uint8_t *end, bool skipSpecial) const;

private:
  struct Node {
    int32_t token = -1;       // index into tokens
    int32_t child = 0, sibling = 0; // 0: none
    uint8_t byte = 0;
  };
  struct Token {
    int32_t id, flags;
  };
  std::vector<Node> nodes;
  std::vector<Token> tokens;
  bool starts[256] = {};

  int32_t childOf(int32_t node, uint8_t byte) const {
    int32_t child = nodes[node].child;
    while (child != 0 && nodes[child].byte != byte) child = nodes[child].sibling;
    return child;
  }
};

} // namespace tokenizer
