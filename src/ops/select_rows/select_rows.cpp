// select_rows, CPU. Contract: select_rows.ts in this folder.
#include "vector_math.h"

KERNEL(select_rows_backward)(const T *dy, const int32_t *indices, T *dx, int64_t M, int64_t D, int64_t N) {
  for (int64_t m = 0; m < M; m++)
    if (indices[m] < 0 || indices[m] >= N) return BAD_INDEX;
  parallelFor(N * D, 1 << 18, [=](int64_t begin, int64_t end) { memset(dx + begin, 0, (end - begin) * sizeof(T)); });
  for (int64_t m = 0; m < M; m++) {
    T *to = dx + indices[m] * D;
    forVectors(0, D, [=](int64_t d, auto n) { store(to + d, load(to + d, n) + load(dy + m * D + d, n), n); });
  }
  return OK;
}
