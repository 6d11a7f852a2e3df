// bias, CUDA. Contract: bias.ts in this folder.
#include "kernel.cuh"

KERNEL add_bias(const T *x, const T *bias, T *y, i64 N, i64 D) {
  forElements(N * D, D % VECTOR == 0 && aligned(x, bias, y), [=](i64 i, auto n) {
    float v[n.value], w[n.value];
    load(x + i, v);
    load(bias + i % D, w);
    for (int k = 0; k < n.value; k++) v[k] += w[k];
    store(y + i, v);
  });
}
