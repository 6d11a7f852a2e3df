// Rows of the chunk table (chunks.ts) and sums over chunks, for the CPU kernels of optimizers and norms.
#pragma once
#include "kernel.h"

constexpr int64_t UNIT = 64;      // ALIGNMENT of parameters.ts
constexpr int64_t CHUNK = 32768;  // CHUNK of chunks.ts

struct Chunk {
  int32_t start, count, parameter, state;
};

/** Sum of x[i]^2 in float, in an order that depends on n alone. Sixteen lanes a register, four registers. */
template <class X> inline float sumSquares(const X *x, int64_t n) {
  constexpr int LANES = 64;
  float lanes[LANES] = {};
  int64_t i = 0;
  for (; i + LANES <= n; i += LANES)
    for (int l = 0; l < LANES; l++) {
      const float value = float(x[i + l]);
      lanes[l] += value * value;
    }
  for (int l = 0; i < n; i++, l++) lanes[l] += float(x[i]) * float(x[i]);
  float sum = 0;
  for (int l = 0; l < LANES; l++) sum += lanes[l];
  return sum;
}
