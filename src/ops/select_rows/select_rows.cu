// select_rows, CUDA. Contract: select_rows.ts in this folder. A warp per row of dx looks for its indices, in order.
#include "kernel.cuh"

KERNEL select_rows_backward(const T *dy, const int *indices, T *dx, i64 M, i64 D, i64 N) {
  const i64 row = (i64(blockIdx.x) * blockDim.x + threadIdx.x) / WARP;
  const int lane = threadIdx.x % WARP;
  if (row >= N) return;
  forRow(D, D % VECTOR == 0 && aligned(dy, dx), lane, WARP, [=](i64 d, auto n) {
    float sum[n.value] = {};
    for (i64 m = 0; m < M; m++) {
      if (indices[m] != row) continue;
      float v[n.value];
      load(dy + m * D + d, v);
      for (int k = 0; k < n.value; k++) sum[k] += v[k];
    }
    store(dx + row * D + d, sum);
  });
}
