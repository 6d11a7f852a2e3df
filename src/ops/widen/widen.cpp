// widen, CPU. Contract: widen.ts in this folder.
#include "vector_math.h"

KERNEL(widen)(const T *x, float *y, int64_t N) {
  parallelFor(N, 32768, [=](int64_t begin, int64_t end) {
    forVectors(begin, end, [=](int64_t i, auto n) { store(y + i, load(x + i, n), n); });
  });
  return OK;
}
