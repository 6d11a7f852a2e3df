#include "added_tokens.h"

namespace tokenizer {

void AddedTokens::add(const uint8_t *p, size_t bytes, int32_t id, int32_t flags) {
  if (bytes == 0) return;
  starts[p[0]] = true;
  int32_t node = 0;
  for (size_t i = 0; i < bytes; i++) {
    int32_t child = childOf(node, p[i]);
    if (child == 0) {
      child = int32_t(nodes.size());
      Node fresh;
      fresh.byte = p[i];
      fresh.sibling = nodes[node].child;
      nodes.push_back(fresh);
      nodes[node].child = child;
    }
    node = child;
  }
  nodes[node].token = int32_t(tokens.size());
  tokens.push_back({id, flags});
}

static const uint8_t *spacesBehind(const uint8_t *p, const uint8_t *end) {
  while (p < end) {
    const Character c = characterAt(p, end);
    if (classOf(c.codePoint) != SPACE) break;
    p += c.bytes;
  }
  return p;
}

static const uint8_t *spacesBefore(const uint8_t *from, const uint8_t *p) {
  while (p > from) {
    const uint8_t *start = p - 1;
    while (start > from && (*start & 0xc0) == 0x80 && p - start < 4) start--;
    const Character c = characterAt(start, p);
    if (start + c.bytes != p || classOf(c.codePoint) != SPACE) break;
    p = start;
  }
  return p;
}

AddedTokens::Match AddedTokens::find(const uint8_t *p, const uint8_t *end, bool skipSpecial) const {
  if (empty()) return {nullptr, nullptr, 0};
  const uint8_t *from = p;
  while (p < end) {
    if (!starts[*p]) {
      p++;
      continue;
    }
    int32_t token = -1;
    const uint8_t *stop = p;
    int32_t node = 0;
    for (const uint8_t *q = p; q < end; q++) {
      node = childOf(node, *q);
      if (node == 0) break;
      if (nodes[node].token >= 0) {
        token = nodes[node].token;
        stop = q + 1;
      }
    }
    if (token < 0) {
      p++;
    } else if (skipSpecial && (tokens[token].flags & SPECIAL)) {
      p = stop;
    } else {
      const Token &t = tokens[token];
      if (t.flags & STRIP_LEFT) p = spacesBefore(from, p);
      if (t.flags & STRIP_RIGHT) stop = spacesBehind(stop, end);
      return {p, stop, t.id};
    }
  }
  return {nullptr, nullptr, 0};
}

} // namespace tokenizer
