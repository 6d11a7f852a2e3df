// log_softmax, CPU. Contract: log_softmax.ts in this folder.
#include "log_sum_exp.h"

KERNEL(log_softmax)(const T *x, float *y, int64_t N, int64_t V) {
  parallelFor(N, 1 + 32768 / V, [=](int64_t begin, int64_t end) {
    for (int64_t n = begin; n < end; n++) {
      float most, lse;
      logSumExp(x + n * V, V, most, lse);
      forVectors(0, V, [=](int64_t i, auto c) { store(y + n * V + i, load(x + n * V + i, c) - lse, c); });
    }
  });
  return OK;
}
