// What the optimizers' CPU kernels share: clipping, the scale by RMS, and how changes reach parameters.
#pragma once
#include <algorithm>
#include <type_traits>
#include "../tensor/chunks.h"
#include "philox.h"

/** What gradients are multiplied by so that their global norm is at most maxNorm. */
inline float clipFactor(float norm, float maxNorm) { return std::min(1.f, maxNorm / (norm + 1e-6f)); }

/** max(smallest, RMS) of a parameter of n elements from its L2 norm. */
inline float parameterScale(float norm, float n, float smallest) { return std::max(smallest, norm / sqrtf(n)); }

/** How a changed value becomes a T: to the nearest; to the nearest, keeping what that loses; up or down by chance. */
enum class Rounding { NEAREST, COMPENSATED, STOCHASTIC };

/** x rounded to one of the two neighbours, the nearer the likelier; the mean over words is x. */
inline float roundByChance(float x, uint32_t, float) { return x; }
inline bf16 roundByChance(float x, uint32_t word, bf16) {
  uint32_t u;
  memcpy(&u, &x, 4);
  if ((u & 0x7f800000) != 0x7f800000) u += word >> 16;
  bf16 y;
  y.bits = uint16_t(u >> 16);
  return y;
}

/** The same place in an array that may be absent. */
inline T *at(T *array, int64_t i) { return array ? array + i : array; }

/** Where and how a run of changes is applied: pointers at its first element. */
struct Target {
  T *values, *compensation;
  const int32_t *rng;  // [seed, step]
  int32_t site;
  int64_t element;  // of the first value: random words belong to (rng, site, element)
};

/** values[i] += change(i, values[i]) for i in [0, n). */
template <Rounding R, class Change> inline void applyChanges(int64_t n, const Target &target, const Change &change) {
  T *__restrict values = target.values;
  T *__restrict compensation = target.compensation;
  if (R == Rounding::STOCHASTIC) {
    constexpr int RUN = 4 * PHILOX_LANES;
    for (int64_t i = 0; i < n; i += RUN) {
      uint32_t words[RUN];
      // Runs may start anywhere: spaced by whole runs, the counters of two of them never meet.
      philoxBlocks(target.rng, target.site, (target.element + i) * PHILOX_LANES, words);
      for (int64_t k = i; k < std::min(n, i + RUN); k++)
        values[k] = roundByChance(float(values[k]) + change(k, float(values[k])), words[k - i], T());
    }
    return;
  }
  for (int64_t i = 0; i < n; i++) {
    const float old = float(values[i]);
    const float whole = R == Rounding::COMPENSATED ? change(i, old) + float(compensation[i]) : change(i, old);
    const T next = T(old + whole);
    if (R == Rounding::COMPENSATED) compensation[i] = T(whole - (float(next) - old));
    values[i] = next;
  }
}

/** Calls body with the rounding that the given arguments mean, as a compile-time constant. */
template <class Body> inline void withRounding(const T *compensation, const int32_t *rng, const Body &body) {
  if (compensation) body(std::integral_constant<Rounding, Rounding::COMPENSATED>());
  else if (rng) body(std::integral_constant<Rounding, Rounding::STOCHASTIC>());
  else body(std::integral_constant<Rounding, Rounding::NEAREST>());
}
