// Few rows of x times weights as they lie in memory, for decoding: what linear_rows and linear_half build on.
//
// A tile is ROWS rows of x by W / ROWS rows of a weight: W products at once, each summed up in a register of its own and
// then over its lanes, always by halves. So every product is formed in the same order, whatever tile it falls into.
#pragma once
#include <algorithm>
#include "lane_sums.h"
#include "scratch.h"

constexpr int64_t ROWS_TASK_BYTES = 1 << 16;
constexpr int64_t ROWS_SERIAL_OPERATIONS = 1 << 16;  // less is done before another thread has begun

/** Rows of x as floats, `stride` apart, with zeros behind them up to a whole register. */
struct Rows {
  const float *x;
  int64_t stride, I, N;
  float alpha;
};

/** Rows [n, n + ROWS) times W / ROWS rows of a weight; FETCH: the weight's next rows are asked for on the way. */
template <int ROWS, bool FETCH, class F, class R>
inline void tile(const Rows &rows, int64_t n, const F *weight, R *y, int64_t O) {
  constexpr int COLUMNS = W / ROWS, AHEAD = COLUMNS < 8 ? 8 : COLUMNS;
  vec sums[ROWS * COLUMNS];
#pragma GCC unroll 16
  for (int i = 0; i < ROWS * COLUMNS; i++) sums[i] = vec{};
  const float *x = rows.x + n * rows.stride;
  forVectors(0, rows.I, [&](int64_t i, auto part) {
    vec columns[COLUMNS];
#pragma GCC unroll 16
    for (int c = 0; c < COLUMNS; c++) {
      columns[c] = load(weight + c * rows.I + i, part);
      if (FETCH) __builtin_prefetch(weight + (c + AHEAD) * rows.I + i, 0, 2);
    }
#pragma GCC unroll 16
    for (int r = 0; r < ROWS; r++) {
      const vec row = load(x + r * rows.stride + i);
#pragma GCC unroll 16
      for (int c = 0; c < COLUMNS; c++) sums[r * COLUMNS + c] += row * columns[c];
    }
  });
  const vec all = rows.alpha * laneSums<W>(sums);
  if constexpr (ROWS == 1) store(y + n * O, all);
  else
    for (int r = 0; r < ROWS; r++)
      for (int c = 0; c < COLUMNS; c++) y[(n + r) * O + c] = R(all[r * COLUMNS + c]);
}

/** All rows that make whole tiles from row n on, times W rows of a weight; returns the first one that is left. */
template <int ROWS, class F, class R>
int64_t tiles(const Rows &rows, int64_t n, const F *weight, R *y, int64_t O) {
  const int64_t end = n + (rows.N - n) / ROWS * ROWS;
  for (int c = 0; c < W; c += W / ROWS)
    for (int64_t r = n; r < end; r += ROWS) {
      if (r == 0) tile<ROWS, true>(rows, r, weight + c * rows.I, y + c, O);
      else tile<ROWS, false>(rows, r, weight + c * rows.I, y + c, O);
    }
  return end;
}

/** All rows times one row of a weight. */
template <class F, class R> void column(const Rows &rows, const F *weight, R *y, int64_t O) {
  for (int64_t n = 0; n < rows.N; n++) {
    vec sums[W] = {};
    forVectors(0, rows.I, [&](int64_t i, auto part) {
      sums[0] += load(rows.x + n * rows.stride + i) * load(weight + i, part);
    });
    y[n * O] = R(rows.alpha * laneSums<W>(sums)[0]);
  }
}

/** All rows times `count` <= W rows of a weight. */
template <class F, class R> void block(const Rows &rows, const F *weight, int64_t count, R *y, int64_t O) {
  if (count < W) {
    for (int64_t c = 0; c < count; c++) column(rows, weight + c * rows.I, y + c, O);
    return;
  }
  int64_t n = tiles<4>(rows, 0, weight, y, O);
  n = tiles<2>(rows, n, weight, y, O);
  tiles<1>(rows, n, weight, y, O);
}

/** Floats between padded rows: not a power of two, whose rows would share cache sets. */
inline int64_t paddedStride(int64_t I) { return (I + W - 1) / W * W + 16; }

/** x [N,I] as rows in `memory`, N * paddedStride(I) + W floats. */
template <class X> Rows paddedRows(const X *x, float *memory, int64_t N, int64_t I, float alpha) {
  const int64_t stride = paddedStride(I);
  for (int64_t n = 0; n < N; n++)
    for (int64_t i = 0; i < I + W; i++) memory[n * stride + i] = i < I ? float(x[n * I + i]) : 0;
  return {memory, stride, I, N, alpha};
}

/** Up to three weights [O_j,I] on x [N,I], times alpha: y_j [N,O_j]. */
template <class R, class F>
int linearRows(const R *x, const F *const (&weights)[3], R *const (&ys)[3], const int64_t (&widths)[3], int64_t N, int64_t I,
               float alpha) {
  static thread_local Scratch scratch;
  float *memory = scratch.floats(N * paddedStride(I) + W);
  if (!memory) return OUT_OF_MEMORY;
  const Rows rows = paddedRows(x, memory, N, I, alpha);
  int64_t blocks = 0, outputs = 0;
  for (int64_t width : widths) {
    blocks += (width + W - 1) / W;
    outputs += width;
  }
  const bool serial = N * I * outputs < ROWS_SERIAL_OPERATIONS;
  const int64_t grain = std::max<int64_t>(1, ROWS_TASK_BYTES / (W * I * int64_t(sizeof(F))));
  parallelFor(blocks, serial ? blocks : grain, [&](int64_t begin, int64_t end) {
    for (int64_t b = begin; b < end; b++) {
      int64_t at = b * W, j = 0;
      for (; at >= (widths[j] + W - 1) / W * W; j++) at -= (widths[j] + W - 1) / W * W;
      block(rows, weights[j] + at * I, std::min<int64_t>(W, widths[j] - at), ys[j] + at, widths[j]);
    }
  });
  return OK;
}
