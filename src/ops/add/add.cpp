// add, CPU. Contract: add.ts in this folder.
#include "vector_math.h"

KERNEL(add)(const T *a, const T *b, T *y, int64_t N) {
  parallelFor(N, 32768, [=](int64_t begin, int64_t end) {
    forVectors(begin, end, [=](int64_t i, auto n) { store(y + i, load(a + i, n) + load(b + i, n), n); });
  });
  return OK;
}
