// column_sums, CPU. Contract: column_sums.ts in this folder.
#include "vector_math.h"

KERNEL(column_sums)(const T *x, float *sums, int64_t N, int64_t D, float beta) {
  // Each chunk owns columns: no atomics, the same bits at any thread count.
  constexpr int64_t COLUMNS = 128;
  parallelFor(D, COLUMNS, [=](int64_t begin, int64_t end) {
    float total[COLUMNS] = {};
    for (int64_t n = 0; n < N; n++)
      forVectors(begin, end, [&](int64_t d, auto count) {
        float *to = total + (d - begin);
        store(to, load(to, count) + load(x + n * D + d, count), count);
      });
    for (int64_t d = begin; d < end; d++) sums[d] = total[d - begin] + (beta == 0 ? 0 : beta * sums[d]);
  });
  return OK;
}
