// scale, CUDA. Contract: scale.ts in this folder.
#include "kernel.cuh"

KERNEL scale(const T *x, T *y, i64 N, float factor) {
  forElements(N, aligned(x, y), [=](i64 i, auto n) {
    float v[n.value];
    load(x + i, v);
    for (float &value : v) value *= factor;
    store(y + i, v);
  });
}
