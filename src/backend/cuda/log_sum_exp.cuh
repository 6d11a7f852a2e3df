// The largest of a row and the log of the sum of its exponentials, in one pass over it.
#pragma once
#include "kernel.cuh"

/** Of the values seen so far; the sum is of e^(x - most). */
struct LogSumExp {
  float most = -infinity(), sum = 0;

  /** NaN makes the sum NaN; all of -infinity adds nothing. */
  template <int N> DEVICE void add(const float (&x)[N]) {
    float here = most;
    for (float v : x) here = fmaxf(here, v);
    const float origin = here == -infinity() ? 0 : here;
    sum *= exponential(most - origin);
    const float shift = origin * -1.44269504f;
    for (float v : x) sum += exponential2(v * 1.44269504f + shift);
    most = here;
  }

  /** Those of all threads of the block; `most` becomes the row's. @return its log-sum-exp */
  DEVICE float acrossRow() {
    const float mine = most;
    most = acrossBlock<Largest>(mine);
    const float origin = most == -infinity() ? 0 : most;
    return origin + logf(acrossBlock<Sum>(sum * exponential(mine - origin)));
  }
};
