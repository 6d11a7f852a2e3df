// The largest of a row and the log of the sum of its exponentials.
#pragma once
#include "vector_math.h"

/**
 * Both in one pass over memory: a block is read again only from the L1 cache, while the next one is fetched. NaN in
 * the row makes lse NaN.
 */
template <class X> inline void logSumExp(const X *x, int64_t V, float &most, float &lse) {
  constexpr int64_t BLOCK = 2048;
  float s = 0;
  most = -INFINITY;
  for (int64_t begin = 0; begin < V; begin += BLOCK) {
    const int64_t count = begin + BLOCK < V ? BLOCK : V - begin;
    const float here = largest(x + begin, count);
    if (here > most) {
      s *= expf(most - here);
      most = here;
    }
    s += vectorSum(count, [=](int64_t i, auto n) {
      __builtin_prefetch(x + begin + BLOCK + i);
      return exponential(load(x + begin + i, n, -INFINITY) - most);
    });
  }
  lse = most + logf(s);
}
