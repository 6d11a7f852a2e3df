// dropout, CPU. Contract: dropout.ts in this folder.
#include "philox.h"
#include "vector_math.h"

KERNEL(dropout)(const T *x, const int32_t *rng, T *y, int64_t N, float rate, int32_t site) {
  constexpr int64_t GROUP = 4 * PHILOX_LANES;
  const uint32_t threshold = dropThreshold(rate);
  const float factor = 1 / (1 - rate);
  parallelFor((N + GROUP - 1) / GROUP, 128, [=](int64_t begin, int64_t end) {
    for (int64_t g = begin; g < end; g++) {
      uint32_t words[GROUP];
      philoxBlocks(rng, site, g * PHILOX_LANES, words);
      const int64_t first = g * GROUP, last = first + GROUP < N ? first + GROUP : N;
      forVectors(first, last, [&](int64_t i, auto n) {
        uvec word;
        memcpy(&word, words + (i - first), sizeof word);
        store(y + i, word >= threshold ? load(x + i, n) * factor : vec{}, n);
      });
    }
  });
  return OK;
}
