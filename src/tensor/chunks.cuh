// Rows of the chunk table (chunks.ts) and sums over chunks, for the CUDA kernels of optimizers and norms.
#pragma once
#include "kernel.cuh"

constexpr int UNIT = 64;      // ALIGNMENT of parameters.ts
constexpr int CHUNK = 32768;  // CHUNK of chunks.ts

struct Chunk {
  int start, count, parameter, state;
};

/** Sum of x[i]^2 over a block's run of elements, in every thread. */
template <class X> DEVICE float sumSquares(const X *x, i64 count) {
  const bool whole = aligned(x);
  float sum = 0;
  forRow(whole ? count / VECTOR * VECTOR : count, whole, threadIdx.x, blockDim.x, [&](i64 i, auto n) {
    float v[n.value];
    load(x + i, v);
    for (float value : v) sum += value * value;
  });
  if (whole && threadIdx.x < count % VECTOR) {
    const float value = float(x[count / VECTOR * VECTOR + threadIdx.x]);
    sum += value * value;
  }
  return acrossBlock<Sum>(sum);
}

/** The first of the rows [0, C) of a table whose `member` (rising) is not below p. */
template <class Row> DEVICE i64 firstOf(const Row *table, i64 C, int p, int Row::*member) {
  i64 below = 0, beyond = C;
  while (below < beyond) {
    const i64 middle = (below + beyond) / 2;
    if (table[middle].*member < p) below = middle + 1;
    else beyond = middle;
  }
  return below;
}

/** Sum of partial[c] over the rows of a table that belong to p, in float64, in every lane of a warp. */
template <class Row> DEVICE double sumPartials(const float *partial, const Row *table, i64 C, int p, int Row::*member) {
  double sum = 0;
  const i64 end = firstOf(table, C, p + 1, member);
  for (i64 c = firstOf(table, C, p, member) + threadIdx.x % WARP; c < end; c += WARP) sum += partial[c];
  return acrossLanes<Sum>(sum);
}
