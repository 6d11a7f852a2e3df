// rms_norm, CPU. Contract, formula and source: rms_norm.ts in this folder.
#include "kernel.h"

KERNEL(rms_norm_forward)(const T *x, const T *weight, T *y, float *rstd, int64_t N, int64_t D, float eps) {
  parallelFor(N, 16, [=](int64_t begin, int64_t end) {
    for (int64_t n = begin; n < end; n++) {
      const T *xn = x + n * D;
      float partial[W] = {};
      int64_t d = 0;
      for (; d + W <= D; d += W)
        for (int w = 0; w < W; w++) partial[w] += float(xn[d + w]) * float(xn[d + w]);
      float sumSq = 0;
      for (; d < D; d++) sumSq += float(xn[d]) * float(xn[d]);
      for (int w = 0; w < W; w++) sumSq += partial[w];
      const float r = rstd[n] = 1 / sqrtf(sumSq / D + eps);
      for (d = 0; d < D; d++) y[n * D + d] = T(float(xn[d]) * r * float(weight[d]));
    }
  });
  return OK;
}

KERNEL(rms_norm_backward)(const T *dy, const T *x, const T *weight, const float *rstd, T *dx, float *dweight,
                          int64_t N, int64_t D) {
  parallelFor(N, 16, [=](int64_t begin, int64_t end) {
    for (int64_t n = begin; n < end; n++) {
      const T *dyn = dy + n * D, *xn = x + n * D;
      const float r = rstd[n];
      float partial[W] = {};
      int64_t d = 0;
      for (; d + W <= D; d += W)
        for (int w = 0; w < W; w++) partial[w] += float(xn[d + w]) * float(weight[d + w]) * float(dyn[d + w]);
      float dot = 0;
      for (; d < D; d++) dot += float(xn[d]) * float(weight[d]) * float(dyn[d]);
      for (int w = 0; w < W; w++) dot += partial[w];
      dot *= r / D;
      for (d = 0; d < D; d++)
        dx[n * D + d] = T(r * (float(weight[d]) * float(dyn[d]) - float(xn[d]) * r * dot));
    }
  });
  // Each thread owns columns of dweight: no atomics, the same bits at any thread count.
  parallelFor(D, 64, [=](int64_t begin, int64_t end) {
    for (int64_t d = begin; d < end; d++) dweight[d] = 0;
    for (int64_t n = 0; n < N; n++)
      for (int64_t d = begin; d < end; d++) dweight[d] += float(dy[n * D + d]) * float(x[n * D + d]) * rstd[n];
  });
  return OK;
}
