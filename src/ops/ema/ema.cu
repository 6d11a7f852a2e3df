// ema, CUDA. Contract and formula: ema.ts in this folder.
#include "kernel.cuh"

KERNEL ema_update(const T *values, float *average, i64 N, float rest) {
  forElements(N, aligned(values, average), [=](i64 i, auto n) {
    float v[n.value], old[n.value];
    load(values + i, v);
    load(average + i, old);
    for (int k = 0; k < n.value; k++) old[k] += rest * (v[k] - old[k]);
    store(average + i, old);
  });
}

KERNEL ema_load(const float *average, T *values, T *saved, i64 N) {
  forElements(N, aligned(average, values, saved), [=](i64 i, auto n) {
    float v[n.value], next[n.value];
    load(values + i, v);
    load(average + i, next);
    store(saved + i, v);
    store(values + i, next);
  });
}
