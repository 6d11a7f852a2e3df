// embedding, CPU. Contracts: embedding.ts in this folder.
#include "half.h"

namespace {

bool allBelow(const int32_t *ids, int64_t N, int64_t V) {
  int32_t bad = 0;
  for (int64_t n = 0; n < N; n++) bad |= ids[n] < 0 || ids[n] >= V;
  return !bad;
}

}  // namespace

KERNEL(embedding_forward)(const T *table, const int32_t *ids, T *y, int64_t V, int64_t D, int64_t N) {
  if (!allBelow(ids, N, V)) return BAD_INDEX;
  parallelFor(N, 32, [=](int64_t begin, int64_t end) {
    for (int64_t n = begin; n < end; n++) memcpy(y + n * D, table + ids[n] * D, D * sizeof(T));
  });
  return OK;
}

KERNEL(embedding_half)(const half *table, const int32_t *ids, float *y, int64_t V, int64_t D, int64_t N) {
  if (!allBelow(ids, N, V)) return BAD_INDEX;
  parallelFor(N, 32, [=](int64_t begin, int64_t end) {
    for (int64_t n = begin; n < end; n++)
      forVectors(0, D, [=](int64_t d, auto part) { store(y + n * D + d, load(table + ids[n] * D + d, part), part); });
  });
  return OK;
}

KERNEL(embedding_backward)(const T *dy, const int32_t *ids, float *dtable, int64_t N, int64_t D, int64_t V,
                           float beta) {
  if (!allBelow(ids, N, V)) return BAD_INDEX;
  if (beta != 1)
    parallelFor(V * D, 1 << 18, [=](int64_t begin, int64_t end) {
      if (beta == 0)
        memset(dtable + begin, 0, (end - begin) * sizeof(float));
      else
        for (int64_t i = begin; i < end; i++) dtable[i] *= beta;
    });
  // Each chunk owns columns of the table and adds the rows in order: no atomics, the same bits at any thread count.
  parallelFor(D, 64, [=](int64_t begin, int64_t end) {
    for (int64_t n = 0; n < N; n++) {
      float *to = dtable + ids[n] * D;
      forVectors(begin, end, [=](int64_t d, auto count) { store(to + d, load(to + d, count) + load(dy + n * D + d, count), count); });
    }
  });
  return OK;
}
