// Sums down the columns of a matrix: a block takes 32 columns and its warps share the rows.
#pragma once
#include "kernel.cuh"

/**
 * Sum of x[n,d] over n in [begin, end), for d = 32 * blockIdx.x + lane, in the threads of warp 0 with d < D; in an order
 * that depends on begin, end and blockDim.x alone.
 */
template <class X> DEVICE float sumColumn(const X *x, i64 begin, i64 end, i64 D) {
  __shared__ float parts[WARP][WARP];
  const int warp = threadIdx.x / WARP, lane = threadIdx.x % WARP, warps = blockDim.x / WARP;
  const i64 d = i64(blockIdx.x) * WARP + lane;
  float sum = 0;
  if (d < D) {
#pragma unroll 8
    for (i64 n = begin + warp; n < end; n += warps) sum += float(x[n * D + d]);
  }
  parts[warp][lane] = sum;
  __syncthreads();
  if (warp > 0) return 0;
  sum = 0;
  for (int w = 0; w < warps; w++) sum += parts[w][lane];
  return sum;
}
