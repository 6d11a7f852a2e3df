// Transposes of small matrices, W x W elements at a time in registers.
#pragma once
#include <utility>
#include "vector_math.h"

/** Exchanges the elements of rows i and i + STEP that lie on the wrong side of the diagonal. */
template <int STEP, int... L> inline void exchange(vec &a, vec &b, std::integer_sequence<int, L...>) {
  const ivec upper = {(L & STEP ? W + L - STEP : L)...}, lower = {(L & STEP ? W + L : L + STEP)...};
  const vec first = __builtin_shuffle(a, b, upper);
  b = __builtin_shuffle(a, b, lower);
  a = first;
}

template <int STEP = 1> inline void transpose(vec (&rows)[W]) {
#pragma GCC unroll 16
  for (int i = 0; i < W; i++)
    if (!(i & STEP)) exchange<STEP>(rows[i], rows[i + STEP], std::make_integer_sequence<int, W>());
  if constexpr (2 * STEP < W) transpose<2 * STEP>(rows);
}

/**
 * Hands the columns of a matrix [rows, columns], whose rows lie `stride` elements apart, to emit(column, row, v, n):
 * v holds rows [row, row + n) of the column and zeros behind them; n is at most W.
 */
template <class X, class Emit>
inline void forColumns(const X *from, int64_t stride, int64_t rows, int64_t columns, const Emit &emit) {
  for (int64_t i = 0; i < rows; i += W) {
    const int64_t height = rows - i < W ? rows - i : W;
    for (int64_t j = 0; j < columns; j += W) {
      const int64_t width = columns - j < W ? columns - j : W;
      vec block[W];
      if (height == W && width == W) {
        for (int r = 0; r < W; r++) block[r] = load(from + (i + r) * stride + j);
      } else {
        for (int r = 0; r < W; r++) block[r] = r < height ? load(from + (i + r) * stride + j, width) : vec{};
      }
      transpose(block);
      for (int c = 0; c < width; c++) emit(j + c, i, block[c], height);
    }
  }
}

/** Stores the first n elements of v. */
template <class X> inline void storeFirst(X *to, vec v, int64_t n) {
  if (n == W) store(to, v);
  else store(to, v, n);
}
