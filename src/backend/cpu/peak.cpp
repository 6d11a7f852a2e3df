// What the processor could do at best: multiplications and additions in registers alone.
#include <chrono>
#include "kernel.h"

namespace {

double peakOfThread() {
  constexpr int CHAINS = 12, ROUNDS = 1000000;  // milliseconds: what a processor keeps up, not a burst
  const vec scale = vec{} + 0.999999f, offset = vec{} + 1e-6f;
  vec sums[CHAINS];
#pragma GCC unroll 16
  for (int i = 0; i < CHAINS; i++) sums[i] = vec{} + float(i + 2);  // 1 would stay 1, and the compiler would see it
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

}  // namespace

/** GFLOP/s of all threads together in loops of independent multiply-adds, measured for a few milliseconds. */
extern "C" double fat5_peak_gflops() {
  double rates[256] = {};
  parallelFor(threadCount(), 1, [&](int64_t thread, int64_t) { rates[thread] = peakOfThread(); });
  double sum = 0;
  for (const double rate : rates) sum += rate;
  return sum;
}
