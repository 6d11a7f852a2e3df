// accumulate, CUDA. Contract: accumulate.ts in this folder.
#include "kernel.cuh"

KERNEL accumulate(const T *x, T *y, i64 N, float beta) {
  forElements(N, aligned(x, y), [=](i64 i, auto n) {
    float v[n.value], old[n.value];
    load(x + i, v);
    if (beta != 0) {
      load(y + i, old);
      for (int k = 0; k < n.value; k++) v[k] += beta * old[k];
    }
    store(y + i, v);
  });
}
