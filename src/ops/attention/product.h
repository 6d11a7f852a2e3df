// Small matrix products for attention's tiles: C[i, lane] += sum_k A[i, k] B[k, lane]. One element of A meets a vector
// of B's lanes, so neither needs packing; a block of C stays in registers. On a matrix unit: product_matrix.h instead.
#pragma once
#include "vector_math.h"

/** How exact an operand is held, where that differs: with elements of T, or computed from them. */
constexpr int READ = 0, COMPUTED = 0;

/** Element (i, k) of a left operand at data[i * rowStep + k * step]; `room` is for what `prepare` makes of it. */
template <int> struct Left {
  const float *data;
  int64_t rowStep, step;
  float *room;
};

/** Row-major with `stride` floats from row to row. */
template <int> struct Right {
  const float *data;
  int64_t stride;
  float *room;
};

/** What a thread holds while it multiplies. */
struct ProductUnit {};

/** Floats of room that an operand of so many rows or lanes needs. */
template <int> constexpr int64_t roomOf(int64_t, int64_t) { return 0; }

/** Whether prepared operands are copies, so that their data may change. */
constexpr bool COPIES = false;

/** Products write whole groups of so many rows of C. */
constexpr int64_t ROW_GROUP = 1;

/** To be called before an operand's first product. */
inline void prepare(const Left<0> &, int64_t, int64_t) {}
inline void prepare(const Right<0> &, int64_t, int64_t) {}

struct Sums {
  float *data;
  int64_t stride;
};

enum class Into { REPLACE, ADD };

// Sums that fit the registers beside their operands: 24 of 32, or 12 of 16.
constexpr int BLOCK_ROWS = 6, BLOCK_VECTORS = VECTOR_BYTES == 64 ? 4 : 2;

template <int R, int V> inline void productBlock(Left<0> a, Right<0> b, Sums c, int64_t depth, Into into) {
  vec sums[R][V];
#pragma GCC unroll 8
  for (int i = 0; i < R; i++)
#pragma GCC unroll 8
    for (int v = 0; v < V; v++) sums[i][v] = into == Into::ADD ? load(c.data + i * c.stride + v * W) : vec{};
  const float *right = b.data;
#pragma GCC unroll 4
  for (int64_t k = 0; k < depth; k++) {
    vec lanes[V];
#pragma GCC unroll 8
    for (int v = 0; v < V; v++) lanes[v] = load(right + v * W);
    right += b.stride;
#pragma GCC unroll 8
    for (int i = 0; i < R; i++) {
      const vec left = splat(a.data[i * a.rowStep + k * a.step]);
#pragma GCC unroll 8
      for (int v = 0; v < V; v++) sums[i][v] += left * lanes[v];
    }
  }
#pragma GCC unroll 8
  for (int i = 0; i < R; i++)
#pragma GCC unroll 8
    for (int v = 0; v < V; v++) store(c.data + i * c.stride + v * W, sums[i][v]);
}

/** Rows of C in blocks of R, what is left over in a smaller one. */
template <int R, int V> inline void productRows(Left<0> a, Right<0> b, Sums c, int64_t rows, int64_t depth, Into into) {
  for (; rows >= R; rows -= R) {
    productBlock<R, V>(a, b, c, depth, into);
    a.data += R * a.rowStep;
    c.data += R * c.stride;
  }
  if constexpr (R > 1) {
    if (rows > 0) productRows<R - 1, V>(a, b, c, rows, depth, into);
  }
}

/** Lanes of C in blocks of V vectors, what is left over in a smaller one. */
template <int V> inline void productLanes(Left<0> a, Right<0> b, Sums c, int64_t rows, int64_t lanes, int64_t depth, Into into) {
  for (; lanes >= V * W; lanes -= V * W) {
    productRows<BLOCK_ROWS, V>(a, b, c, rows, depth, into);
    b.data += V * W;
    c.data += V * W;
  }
  if constexpr (V > 1) {
    if (lanes > 0) productLanes<V - 1>(a, b, c, rows, lanes, depth, into);
  }
}

/** C[rows, lanes] from A[rows, depth] and B[depth, lanes]; lanes is a multiple of W. */
__attribute__((noinline)) inline void product(Left<0> a, Right<0> b, Sums c, int64_t rows, int64_t lanes, int64_t depth,
                                              Into into) {
  productLanes<BLOCK_VECTORS>(a, b, c, rows, lanes, depth, into);
}
