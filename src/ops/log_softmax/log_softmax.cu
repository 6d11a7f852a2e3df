// log_softmax, CUDA. Contract: log_softmax.ts in this folder. A block per row; the second reading comes from the cache.
#include "log_sum_exp.cuh"

KERNEL log_softmax(const T *x, float *y, i64 N, i64 V) {
  const T *row = x + i64(blockIdx.x) * V;
  float *to = y + i64(blockIdx.x) * V;
  const bool whole = V % VECTOR == 0 && aligned(x, y);
  LogSumExp mine;
  forRow(V, whole, threadIdx.x, blockDim.x, [&](i64 i, auto n) {
    float v[n.value];
    load(row + i, v);
    mine.add(v);
  });
  const float lse = mine.acrossRow();
  forRow(V, whole, threadIdx.x, blockDim.x, [=](i64 i, auto n) {
    float v[n.value];
    load(row + i, v);
    for (float &value : v) value -= lse;
    store(to + i, v);
  });
}
