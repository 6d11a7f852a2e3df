// accumulate, CPU. Contract: accumulate.ts in this folder.
#include "kernel.h"

KERNEL(accumulate)(const T *x, T *y, int64_t N, float beta) {
  parallelFor(N, 32768, [=](int64_t begin, int64_t end) {
    if (beta == 0)
      for (int64_t i = begin; i < end; i++) y[i] = x[i];
    else
      for (int64_t i = begin; i < end; i++) y[i] = T(beta * float(y[i]) + float(x[i]));
  });
  return OK;
}
