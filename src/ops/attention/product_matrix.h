// product.h on a matrix unit: operands are cut into the unit's tiles once, before their first product.
#pragma once
#include "matrix_tiles.h"

namespace {  // T differs between the objects of one library

/** Parts of an operand that holds elements of T, and of one that was computed from them. */
constexpr int READ = std::is_same<T, float>::value ? 3 : 1, COMPUTED = std::is_same<T, float>::value ? 3 : 2;

/** Element (i, k) of a left operand at data[i * rowStep + k * step], one of the steps 1; its tiles go to `room`. */
template <int N> struct Left {
  const float *data;
  int64_t rowStep, step;
  float *room;
};

/** Row-major with `stride` floats from row to row; its tiles go to `room`. */
template <int N> struct Right {
  const float *data;
  int64_t stride;
  float *room;
};

struct Sums {
  float *data;
  int64_t stride;
};

using ProductUnit = MatrixUnit;

constexpr bool COPIES = true;
constexpr int64_t PANEL = 2 * TILE, ROW_GROUP = TILE;

/** Floats of room for `lines` rows or lanes of `depth` terms. */
template <int N> constexpr int64_t roomOf(int64_t lines, int64_t depth) {
  return (lines + PANEL - 1) / PANEL * panelItems<N>(depth) / 2;
}

inline uint16_t *tilesOf(float *room) { return reinterpret_cast<uint16_t *>(room); }

template <int N> void prepare(const Left<N> &a, int64_t rows, int64_t depth) {
  packPanels<Side::A, N, float>({a.data, a.rowStep, a.step, rows, depth}, tilesOf(a.room));
}

template <int N> void prepare(const Right<N> &b, int64_t lanes, int64_t depth) {
  packPanels<Side::B, N, float>({b.data, 1, b.stride, lanes, depth}, tilesOf(b.room));
}

/** C[rows, lanes] from A[rows, depth] and B[depth, lanes], both prepared; whole tiles of C are written. */
template <int NA, int NB>
void product(Left<NA> a, Right<NB> b, Sums c, int64_t rows, int64_t lanes, int64_t depth, Into into) {
  const int64_t steps = (depth + TILE_TERMS - 1) / TILE_TERMS;
  for (int64_t n = 0; n < lanes; n += PANEL)
    for (int64_t m = 0; m < rows; m += PANEL)
      multiplyPanels<NA, NB>({tilesOf(a.room) + m / PANEL * panelItems<NA>(depth)},
                             tilesOf(b.room) + n / PANEL * panelItems<NB>(depth), steps, c.data + m * c.stride + n, c.stride,
                             rows - m, lanes - n, into, Nothing{});
}

}  // namespace
