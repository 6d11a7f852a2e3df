// transpose, CPU. Contract: transpose.ts in this folder.
#include "kernel.h"

KERNEL(transpose)(const T *x, T *y, int64_t N, int64_t M) {
  constexpr int64_t TILE = 32;  // a tile's rows and columns both stay in the L1 cache
  parallelFor(M, TILE, [=](int64_t begin, int64_t end) {
    for (int64_t first = 0; first < N; first += TILE) {
      const int64_t last = first + TILE < N ? first + TILE : N;
      for (int64_t m = begin; m < end; m++)
        for (int64_t n = first; n < last; n++) y[m * N + n] = x[n * M + m];
    }
  });
  return OK;
}
