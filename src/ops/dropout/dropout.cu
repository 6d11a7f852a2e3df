// dropout, CUDA. Contract: dropout.ts in this folder.
#include "kernel.cuh"

KERNEL dropout(const T *x, const int *rng, T *y, i64 N, float rate, int site) {
  const unsigned seed = rng[0], step = rng[1], threshold = dropThreshold(rate);
  const float factor = 1 / (1 - rate);
  forElements(N, aligned(x, y), [=](i64 i, auto n) {
    float v[n.value];
    load(x + i, v);
    for (int k = 0; k < n.value; k += 4) {
      const uint4 four = philox((i + k) / 4, step, seed, site);
      const unsigned words[] = {four.x, four.y, four.z, four.w};
      if constexpr (n.value == 1) {
        const int lane = i % 4;
        v[0] = (lane == 0 ? four.x : lane == 1 ? four.y : lane == 2 ? four.z : four.w) >= threshold ? v[0] * factor : 0;
      } else {
        for (int lane = 0; lane < 4; lane++) v[k + lane] = words[lane] >= threshold ? v[k + lane] * factor : 0;
      }
    }
    store(y + i, v);
  });
}
