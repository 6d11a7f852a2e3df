// mean_pool, CPU. Contracts: mean_pool.ts in this folder.
#include "vector_math.h"

namespace {

/** 1 / the number of positions that are not padding; 0 when all are. */
float weightOf(const int32_t *segments, int64_t S) {
  int64_t count = 0;
  for (int64_t s = 0; s < S; s++) count += segments[s] >= 0;
  return count ? 1.0f / count : 0;
}

}  // namespace

KERNEL(mean_pool_forward)(const T *x, const int32_t *segments, T *y, int64_t B, int64_t S, int64_t D) {
  constexpr int64_t COLUMNS = 256;
  const int64_t parts = (D + COLUMNS - 1) / COLUMNS;
  parallelFor(B * parts, 1, [=](int64_t begin, int64_t end) {
    for (int64_t k = begin; k < end; k++) {
      const int64_t b = k / parts, first = k % parts * COLUMNS, count = first + COLUMNS < D ? COLUMNS : D - first;
      float total[COLUMNS] = {};
      for (int64_t s = 0; s < S; s++) {
        if (segments[b * S + s] < 0) continue;
        const T *row = x + (b * S + s) * D + first;
        forVectors(0, count, [&](int64_t d, auto n) { store(total + d, load(total + d, n) + load(row + d, n), n); });
      }
      const float weight = weightOf(segments + b * S, S);
      forVectors(0, count, [&](int64_t d, auto n) { store(y + b * D + first + d, load(total + d, n) * weight, n); });
    }
  });
  return OK;
}

KERNEL(mean_pool_backward)(const T *dy, const int32_t *segments, T *dx, int64_t B, int64_t D, int64_t S) {
  parallelFor(B, 1, [=](int64_t begin, int64_t end) {
    for (int64_t b = begin; b < end; b++) {
      const float weight = weightOf(segments + b * S, S);
      for (int64_t s = 0; s < S; s++) {
        const float w = segments[b * S + s] < 0 ? 0 : weight;
        T *row = dx + (b * S + s) * D;
        forVectors(0, D, [=](int64_t d, auto n) { store(row + d, load(dy + b * D + d, n) * w, n); });
      }
    }
  });
  return OK;
}
