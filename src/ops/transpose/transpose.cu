// transpose, CUDA. Contract: transpose.ts in this folder. A block of 32 x 8 threads turns a tile of 32 x 32.
#include "kernel.cuh"

KERNEL transpose(const T *x, T *y, i64 N, i64 M) {
  __shared__ T tile[WARP][WARP + 2];  // the padding keeps a column's values in different banks
  const i64 n0 = i64(blockIdx.x) * WARP, m0 = i64(blockIdx.y) * WARP;
  const int lane = threadIdx.x % WARP, first = threadIdx.x / WARP;
  for (int row = first; row < WARP; row += blockDim.x / WARP)
    if (n0 + row < N && m0 + lane < M) tile[row][lane] = x[(n0 + row) * M + m0 + lane];
  __syncthreads();
  for (int row = first; row < WARP; row += blockDim.x / WARP)
    if (m0 + row < M && n0 + lane < N) y[(m0 + row) * N + n0 + lane] = tile[lane][row];
}
