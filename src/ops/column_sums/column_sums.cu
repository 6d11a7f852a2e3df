// column_sums, CUDA. Contract: column_sums.ts in this folder. First sums of ROWS rows each, then of those.
#include "column_sum.cuh"

KERNEL column_sums_partial(const T *x, float *partial, i64 N, i64 D) {
  const i64 begin = i64(blockIdx.y) * ROWS, end = begin + ROWS < N ? begin + ROWS : N;
  const i64 d = i64(blockIdx.x) * WARP + threadIdx.x;
  const float sum = sumColumn(x, begin, end, D);
  if (threadIdx.x < WARP && d < D) partial[blockIdx.y * D + d] = sum;
}

KERNEL column_sums_total(const float *partial, float *sums, i64 N, i64 D, float beta) {
  const i64 d = i64(blockIdx.x) * WARP + threadIdx.x;
  const float sum = sumColumn(partial, 0, (N + ROWS - 1) / ROWS, D);
  if (threadIdx.x < WARP && d < D) sums[d] = sum + (beta == 0 ? 0 : beta * sums[d]);
}
