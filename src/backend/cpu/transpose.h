// Transposes of small matrices, W x W elements at a time in registers.
#pragma once
#include "vector_math.h"

// Left to itself the compiler calls what is used in several places: a tenth of a product's time.
#define FAT5_INLINE __attribute__((always_inline)) inline

/** Lanes of x and y, four at a time: lane l of the result is lane (at[l % 4]) of the same group of x, from 4 on of y. */
template <int A, int B, int C, int D> FAT5_INLINE vec inGroups(vec x, vec y) {
  ivec lanes;
#pragma GCC unroll 16
  for (int l = 0; l < W; l++) {
    const int at = l % 4 == 0 ? A : l % 4 == 1 ? B : l % 4 == 2 ? C : D;
    lanes[l] = l - l % 4 + (at < 4 ? at : W + at - 4);
  }
  return __builtin_shuffle(x, y, lanes);
}

/** Swaps the off-diagonal halves of every 2S by 2S block. */
template <int S> FAT5_INLINE void swapBlocks(vec (&v)[W]) {
  ivec low, high;
#pragma GCC unroll 16
  for (int l = 0; l < W; l++) {
    low[l] = l & S ? W + l - S : l;
    high[l] = l & S ? W + l : l + S;
  }
#pragma GCC unroll 8
  for (int p = 0; p < W / 2; p++) {
    const int i = p / S * 2 * S + p % S;
    const vec x = v[i], y = v[i + S];
    v[i] = __builtin_shuffle(x, y, low);
    v[i + S] = __builtin_shuffle(x, y, high);
  }
}

/** Transposes W vectors of W floats in place: first 4 by 4, by the shuffles that every processor has, then the blocks. */
FAT5_INLINE void transpose(vec (&v)[W]) {
#pragma GCC unroll 4
  for (int i = 0; i < W; i += 4) {
    const vec a = inGroups<0, 4, 1, 5>(v[i], v[i + 1]), b = inGroups<2, 6, 3, 7>(v[i], v[i + 1]);
    const vec c = inGroups<0, 4, 1, 5>(v[i + 2], v[i + 3]), d = inGroups<2, 6, 3, 7>(v[i + 2], v[i + 3]);
    v[i] = inGroups<0, 1, 4, 5>(a, c);
    v[i + 1] = inGroups<2, 3, 6, 7>(a, c);
    v[i + 2] = inGroups<0, 1, 4, 5>(b, d);
    v[i + 3] = inGroups<2, 3, 6, 7>(b, d);
  }
  if constexpr (W > 4) swapBlocks<4>(v);
  if constexpr (W > 8) swapBlocks<8>(v);
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
