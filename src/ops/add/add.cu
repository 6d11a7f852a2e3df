// add, CUDA. Contract: add.ts in this folder.
#include "kernel.cuh"

KERNEL add(const T *a, const T *b, T *y, i64 N) {
  forElements(N, aligned(a, b, y), [=](i64 i, auto n) {
    float v[n.value], w[n.value];
    load(a + i, v);
    load(b + i, w);
    for (int k = 0; k < n.value; k++) v[k] += w[k];
    store(y + i, v);
  });
}
