// scale, CPU. Contract: scale.ts in this folder.
#include "vector_math.h"

KERNEL(scale)(const T *x, T *y, int64_t N, float factor) {
  parallelFor(N, 32768, [=](int64_t begin, int64_t end) {
    forVectors(begin, end, [=](int64_t i, auto n) { store(y + i, load(x + i, n) * factor, n); });
  });
  return OK;
}
