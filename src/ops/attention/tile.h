// What forward and backward of attention share: the problem, the tiles it is cut into, and the scores of a tile.
//
// A tile holds its scores transposed, [key, query]: a vector register holds one key's scores for W queries. So maxima
// and sums over the keys need no shuffles, keys and values are read as they lie, and the biases of a register are
// consecutive on a strip that holds one value per diagonal.
#pragma once
#include <algorithm>
#include "philox.h"
#include "scratch.h"
#if defined(__AMX_TILE__)
#include "product_matrix.h"
#else
#include "product.h"
#endif
#include "transpose.h"

namespace {  // T differs between the objects of one library

/** Queries and keys of a tile. */
constexpr int QUERIES = 64, KEYS = 64;

inline int64_t roundUp(int64_t x, int64_t step) { return (x + step - 1) / step * step; }

struct Problem {
  const T *q, *k, *v;
  const float *bias, *dense;
  const int32_t *querySegments, *keySegments, *queryPositions, *keyPositions, *rng;
  int64_t B, M, H, D, N, P, E, G;
  float scale;
  bool causal;
  int64_t queryOffset;
  float dropout;
  int32_t site;

  bool drops() const { return rng && dropout > 0; }
  int64_t query(int64_t b, int64_t h, int64_t m) const { return ((b * M + m) * H + h) * D; }
  int64_t key(int64_t b, int64_t h, int64_t n) const { return ((b * N + n) * H + h) * D; }
  /** Row m of the dense plane of (b, h), in elements. */
  int64_t denseRow(int64_t b, int64_t h, int64_t m) const {
    return (((E == 1 ? 0 : b) * G + (G == 1 ? 0 : h)) * M + m) * N;
  }
  int64_t queryBlocks() const { return (M + QUERIES - 1) / QUERIES; }
};

/** QUERIES queries of one row and head. */
struct QueryBlock {
  int64_t b, h, first, count, lanes;
  // Segments as numbers of which no two kinds of invisible are equal, and their range.
  alignas(VECTOR_BYTES) int32_t segments[QUERIES];
  int32_t lowest = 0, highest = 0;

  QueryBlock(const Problem &p, int64_t b, int64_t h, int64_t first)
      : b(b), h(h), first(first), count(std::min<int64_t>(QUERIES, p.M - first)), lanes(roundUp(count, W)) {
    for (int64_t i = 0; i < QUERIES; i++) {
      const int64_t m = b * p.M + first + std::min(i, count - 1);
      segments[i] = p.querySegments && p.keySegments ? std::max(-1, p.querySegments[m]) : 0;
    }
    lowest = *std::min_element(segments, segments + QUERIES);
    highest = *std::max_element(segments, segments + QUERIES);
  }
};

enum class Sight { NONE, SOME, ALL };

/** Where a tile's bias comes from. */
enum class Bias { NONE, CONSTANT, DIAGONAL, GATHERED };

/** Keys [first, first + count) seen from a block of queries. */
struct Tile {
  const Problem &p;
  const QueryBlock &block;
  int64_t first, count;
  Sight sight = Sight::ALL;
  Bias kind = Bias::NONE;
  /** Index into bias[h] if it is CONSTANT. */
  int64_t constant = 0;
  int32_t segments[KEYS];

  Tile(const Problem &p, const QueryBlock &block, int64_t first)
      : p(p), block(block), first(first), count(std::min<int64_t>(KEYS, p.N - first)) {
    if (p.keySegments) lookAtSegments();
    if (p.causal) lookAtCausality();
    if (p.bias && sight != Sight::NONE) chooseBias();
  }

  /** Position of key n minus that of query m, where no positions are given. */
  int64_t relative(int64_t m, int64_t n) const { return n - m - p.queryOffset; }

  int64_t biasIndex(int64_t relative) const {
    const int64_t radius = p.P / 2;
    return std::max(-radius, std::min(radius, relative)) + radius;
  }

  /** The same for query m and key n with positions. */
  int64_t gatheredIndex(int64_t m, int64_t n) const {
    const int64_t from = p.queryPositions ? p.queryPositions[m] : m + p.queryOffset;
    return biasIndex((p.keyPositions ? p.keyPositions[n] : n) - from);
  }

  /** Relative position on entry 0 of a strip; entry i holds that minus i, and (key n, lane) reads lane - n + KEYS-1. */
  int64_t stripStart() const { return relative(block.first, first) + KEYS - 1; }

 private:
  void lookAtSegments() {
    int32_t lowest = INT32_MAX, highest = INT32_MIN;
    for (int64_t i = 0; i < count; i++) {
      const int32_t segment = p.keySegments[block.b * p.N + first + i];
      segments[i] = segment < 0 ? -2 : p.querySegments ? segment : 0;
      lowest = std::min(lowest, segments[i]);
      highest = std::max(highest, segments[i]);
    }
    if (highest < block.lowest || lowest > block.highest) sight = Sight::NONE;
    else if (lowest != highest || block.lowest != block.highest) sight = Sight::SOME;
  }

  void lookAtCausality() {
    if (first > block.first + block.count - 1 + p.queryOffset) sight = Sight::NONE;
    else if (sight == Sight::ALL && first + count - 1 > block.first + p.queryOffset) sight = Sight::SOME;
  }

  void chooseBias() {
    const int64_t radius = p.P / 2;
    const int64_t least = relative(block.first + QUERIES - 1, first), most = relative(block.first, first + KEYS - 1);
    if (p.queryPositions || p.keyPositions) kind = Bias::GATHERED;
    else if (most <= -radius || least >= radius) kind = Bias::CONSTANT;
    else kind = Bias::DIAGONAL;
    if (kind == Bias::CONSTANT) constant = least >= radius ? 2 * radius : 0;
  }
};

/** Fills [key, query] with what is added to q . k: biases, and -infinity where the query does not see the key. */
inline void fillBias(const Tile &t, float *s) {
  const Problem &p = t.p;
  const float *bias = p.bias + t.block.h * p.P;
  if (t.kind == Bias::DIAGONAL) {
    float strip[QUERIES + KEYS];
    const int64_t start = t.stripStart();
    for (int i = 0; i < QUERIES + KEYS; i++) strip[i] = bias[t.biasIndex(start - i)];
    for (int64_t n = 0; n < t.count; n++)
      for (int64_t i = 0; i < t.block.lanes; i += W) store(s + n * QUERIES + i, load(strip + i - n + KEYS - 1));
  } else if (t.kind == Bias::GATHERED) {
    for (int64_t n = 0; n < t.count; n++)
      for (int64_t i = 0; i < t.block.lanes; i++)
        s[n * QUERIES + i] = bias[t.gatheredIndex(t.block.first + std::min(i, t.block.count - 1), t.first + n)];
  } else {
    const vec value = splat(t.kind == Bias::CONSTANT ? bias[t.constant] : 0);
    for (int64_t n = 0; n < t.count; n++)
      for (int64_t i = 0; i < t.block.lanes; i += W) store(s + n * QUERIES + i, value);
  }
  if (p.dense)
    forColumns(p.dense + p.denseRow(t.block.b, t.block.h, t.block.first) + t.first, p.N, t.block.count, t.count,
               [=](int64_t n, int64_t i, vec v, int64_t) {
                 store(s + n * QUERIES + i, load(s + n * QUERIES + i) + v);
               });
  if (t.sight == Sight::ALL) return;
  ivec lane;
  for (int w = 0; w < W; w++) lane[w] = w;
  for (int64_t n = 0; n < t.count; n++) {
    // The first lane that a causal query needs to see the key.
    const int32_t from = p.causal ? int32_t(std::max<int64_t>(0, t.relative(t.block.first, t.first + n))) : 0;
    for (int64_t i = 0; i < t.block.lanes; i += W) {
      ivec sees = lane + int32_t(i) >= from;
      if (p.keySegments) {
        ivec segments;
        memcpy(&segments, t.block.segments + i, sizeof segments);
        sees &= segments == t.segments[n];
      }
      store(s + n * QUERIES + i, sees ? load(s + n * QUERIES + i) : splat(-INFINITY));
    }
  }
}

/** What dropout multiplies each probability by, [key, query]. */
inline void fillDropout(const Tile &t, float *factors) {
  const Problem &p = t.p;
  const uint32_t threshold = dropThreshold(p.dropout);
  const float kept = 1 / (1 - p.dropout);
  uint32_t words[4 * PHILOX_LANES];
  for (int64_t i = 0; i < t.block.count; i++) {
    const int64_t row = ((t.block.b * p.H + t.block.h) * p.M + t.block.first + i) * p.N + t.first;
    for (int64_t n = 0; n < t.count;) {
      const int64_t group = (row + n) / 4;
      philoxBlocks(p.rng, p.site, group, words);
      for (int64_t at = row + n - 4 * group; at < 4 * PHILOX_LANES && n < t.count; at++, n++)
        factors[n * QUERIES + i] = words[at] >= threshold ? kept : 0;
    }
  }
  // Lanes without a query have no share of anything, but 0 times what lies in new memory need not be 0.
  for (int64_t n = 0; n < t.count; n++)
    for (int64_t i = t.block.count; i < t.block.lanes; i++) factors[n * QUERIES + i] = 0;
}

/** Rows [D] of `count` queries or keys that lie `stride` apart, times `factor`, one after the other. */
inline void copyRows(const T *from, int64_t stride, int64_t count, int64_t D, float factor, float *to, int64_t toStride) {
  for (int64_t i = 0; i < count; i++) {
    forVectors(0, D, [&](int64_t d, auto n) { store(to + i * toStride + d, load(from + i * stride + d, n) * factor, n); });
    for (int64_t d = D; d < toStride; d++) to[i * toStride + d] = 0;
  }
}

/** The transpose [D, QUERIES] of `count` such rows, times `factor`; zeros up to a whole vector of lanes. */
inline void transposeRows(const T *from, int64_t stride, int64_t count, int64_t D, float factor, float *to) {
  forColumns(from, stride, count, D,
             [=](int64_t d, int64_t i, vec v, int64_t) { store(to + d * QUERIES + i, v * factor); });
}

/** The way back: `count` rows of T, times `factor`, from [D, QUERIES]. */
inline void restoreRows(const float *from, int64_t count, int64_t D, float factor, T *to, int64_t stride) {
  forColumns(from, QUERIES, D, count, [=](int64_t i, int64_t d, vec v, int64_t n) {
    storeFirst(to + i * stride + d, v * factor, n);
  });
}

}  // namespace
