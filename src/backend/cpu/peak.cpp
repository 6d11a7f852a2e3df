// What the processor could do at best: multiplications and additions in registers alone.
#include <chrono>
#include "kernel.h"

/** GFLOP/s of one thread in a loop of independent multiply-adds, over about a millisecond. */
extern "C" double fat5_peak_gflops() {
  constexpr int CHAINS = 12, ROUNDS = 20000;
  const vec scale = vec{} + 0.999999f, offset = vec{} + 1e-6f;
  vec sums[CHAINS];
#pragma GCC unroll 16
  for (int i = 0; i < CHAINS; i++) sums[i] = vec{} + float(i);
  const auto start = std::chrono::steady_clock::now();
  for (int round = 0; round < ROUNDS; round++)
#pragma GCC unroll 16
    for (int i = 0; i < CHAINS; i++) sums[i] = sums[i] * scale + offset;
  const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - start;
  vec total = vec{};
#pragma GCC unroll 16
  for (int i = 0; i < CHAINS; i++) total += sums[i];
  volatile float used = total[0];  // or the compiler would drop the loop
  (void)used;
  return 2.0 * W * CHAINS * ROUNDS / seconds.count() * 1e-9;
}
