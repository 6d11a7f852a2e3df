// accumulate, CPU. Contract: accumulate.ts in this folder.
#include "vector_math.h"

KERNEL(accumulate)(const T *x, T *y, int64_t N, float beta) {
  parallelFor(N, 32768, [=](int64_t begin, int64_t end) {
    if (beta == 0)
      memcpy(y + begin, x + begin, (end - begin) * sizeof(T));
    else
      forVectors(begin, end, [=](int64_t i, auto n) { store(y + i, beta * load(y + i, n) + load(x + i, n), n); });
  });
  return OK;
}
