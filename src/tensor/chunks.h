// Rows of the chunk table (chunks.ts) and sums over chunks, for the CPU kernels of optimizers and norms.
#pragma once
#include "vector_math.h"

constexpr int64_t UNIT = 64;      // ALIGNMENT of parameters.ts
constexpr int64_t CHUNK = 32768;  // CHUNK of chunks.ts

struct Chunk {
  int32_t start, count, parameter, state;
};

/** Sum of x[i]^2, in float and in an order that depends on n alone. */
template <class X> inline float sumSquares(const X *x, int64_t count) {
  return vectorSum(count, [=](int64_t i, auto n) { return load(x + i, n) * load(x + i, n); });
}
