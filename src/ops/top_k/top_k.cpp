// top_k, CPU. Contract: top_k.ts in this folder.
#include "vector_math.h"

namespace {

/** Puts v, found after all that are there, at its place among `count` of at most K values. */
void insert(float v, int32_t id, float *values, int32_t *ids, int64_t &count, int64_t K) {
  if (count == K && !(v > values[K - 1])) return;
  int64_t k = count < K ? count++ : K - 1;
  for (; k > 0 && (v > values[k - 1] || values[k - 1] != values[k - 1]); k--) {
    values[k] = values[k - 1];
    ids[k] = ids[k - 1];
  }
  values[k] = v;
  ids[k] = id;
}

}  // namespace

KERNEL(top_k)(const T *x, float *values, int32_t *ids, int64_t N, int64_t V, int64_t K) {
  constexpr int64_t BLOCK = 256;  // looked through element by element only if it holds a new value
  parallelFor(N, 1, [=](int64_t begin, int64_t end) {
    for (int64_t n = begin; n < end; n++) {
      const T *row = x + n * V;
      float *best = values + n * K;
      int64_t count = 0;
      for (int64_t first = 0; first < V; first += BLOCK) {
        const int64_t last = first + BLOCK < V ? first + BLOCK : V;
        if (count == K && largest(row + first, last - first) <= best[K - 1]) continue;
        for (int64_t v = first; v < last; v++) insert(float(row[v]), int32_t(v), best, ids + n * K, count, K);
      }
    }
  });
  return OK;
}
