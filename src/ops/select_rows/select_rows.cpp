// select_rows, CPU. Contract: select_rows.ts in this folder.
#include "vector_math.h"

KERNEL(select_rows_backward)(const T *dy, const int32_t *indices, T *dx, int64_t M, int64_t D, int64_t N) {
  for (int64_t m = 0; m < M; m++)
    if (indices[m] < 0 || indices[m] >= N) return BAD_INDEX;
  // Each row of dx looks for its gradients, few as they are: their sum is rounded to T once.
  parallelFor(N, 64, [=](int64_t begin, int64_t end) {
    for (int64_t n = begin; n < end; n++) {
      int64_t first = 0;
      while (first < M && indices[first] != n) first++;
      if (first == M) {
        memset(dx + n * D, 0, D * sizeof(T));
        continue;
      }
      forVectors(0, D, [=](int64_t d, auto part) {
        vec total = load(dy + first * D + d, part);
        for (int64_t m = first + 1; m < M; m++)
          if (indices[m] == n) total += load(dy + m * D + d, part);
        store(dx + n * D + d, total, part);
      });
    }
  });
  return OK;
}
