// bias, CPU. Contract: bias.ts in this folder.
#include "vector_math.h"

KERNEL(add_bias)(const T *x, const T *bias, T *y, int64_t N, int64_t D) {
  parallelFor(N, 64, [=](int64_t begin, int64_t end) {
    for (int64_t n = begin; n < end; n++)
      forVectors(0, D, [=](int64_t d, auto count) {
        store(y + n * D + d, load(x + n * D + d, count) + load(bias + d, count), count);
      });
  });
  return OK;
}
