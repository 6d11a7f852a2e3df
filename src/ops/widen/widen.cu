// widen, CUDA. Contract: widen.ts in this folder.
#include "kernel.cuh"

KERNEL widen(const T *x, float *y, i64 N) {
  forElements(N, aligned(x, y), [=](i64 i, auto n) {
    float v[n.value];
    load(x + i, v);
    store(y + i, v);
  });
}
