// What the optimizers' CPU kernels share: clipping, the scale by RMS, and how changes reach parameters.
#pragma once
#include <algorithm>
#include <type_traits>
#include "../tensor/chunks.h"
#include "philox.h"
#include "vector_math.h"

/** What gradients are multiplied by so that their global norm is at most maxNorm. */
inline float clipFactor(float norm, float maxNorm) { return std::min(1.f, maxNorm / (norm + 1e-6f)); }

/** max(smallest, RMS) of a parameter of n elements from its L2 norm. */
inline float parameterScale(float norm, float n, float smallest) { return std::max(smallest, norm / sqrtf(n)); }

/** How a changed value becomes a T: to the nearest; the same, keeping what that loses, or all of it; up or down by chance. */
enum class Rounding { NEAREST, COMPENSATED, MASTER, STOCHASTIC };

/** Stores x rounded to one of its two neighbours, the nearer the likelier, so that the mean over words is x. */
template <class N> inline void storeByChance(float *p, vec x, const uint32_t *, N n) { store(p, x, n); }
template <class N> inline void storeByChance(bf16 *p, vec x, const uint32_t *words, N n) {
  uvec word;
  memcpy(&word, words, sizeof word);
  store(p, (vec)(((uvec)x + (word >> 16)) & 0xffff0000), n);
}

/** The same place in an array that may be absent. */
template <class X> inline X *at(X *array, int64_t i) { return array ? array + i : array; }

/**
 * Asks for what a loop will read soon: it follows more arrays than the hardware's own prefetching keeps up with from
 * page to page. Asking beyond an array's end is harmless.
 */
template <class... X> inline void ahead(int64_t i, const X *...arrays) {
  constexpr int64_t BYTES = 1024;
  (__builtin_prefetch(reinterpret_cast<const char *>(arrays + i) + BYTES), ...);
}

/** Where and how a run of changes is applied: pointers at its first element. */
struct Target {
  T *values, *compensation;
  float *master;
  const int32_t *rng;  // [seed, step]
  int32_t site;
  int64_t element;  // of the first value: random words belong to (rng, site, element)
};

/** values[i] += change(i, n, values[i]) for the vectors of [0, count); n as in forVectors. */
template <Rounding R, class Change>
inline void applyChanges(int64_t count, const Target &target, const Change &change) {
  T *values = target.values;
  if constexpr (R == Rounding::STOCHASTIC) {
    constexpr int64_t RUN = 4 * PHILOX_LANES;
    for (int64_t start = 0; start < count; start += RUN) {
      uint32_t words[RUN];
      // Runs may start anywhere: spaced by whole runs, the counters of two of them never meet.
      philoxBlocks(target.rng, target.site, (target.element + start) * PHILOX_LANES, words);
      forVectors(start, std::min(count, start + RUN), [&](int64_t i, auto n) {
        const vec old = load(values + i, n);
        storeByChance(values + i, old + change(i, n, old), words + (i - start), n);
      });
    }
  } else {
    forVectors(0, count, [&](int64_t i, auto n) {
      const vec old = R == Rounding::MASTER ? load(target.master + i, n) : load(values + i, n);
      vec whole = change(i, n, old);
      if (R == Rounding::COMPENSATED) whole += load(target.compensation + i, n);
      store(values + i, old + whole, n);
      if (R == Rounding::MASTER) store(target.master + i, old + whole, n);
      if (R == Rounding::COMPENSATED) store(target.compensation + i, whole - (load(values + i, n) - old), n);
    });
  }
}

/** Calls body with the rounding that the given arguments mean, as a compile-time constant. */
template <class Body>
inline void withRounding(const T *compensation, const int32_t *rng, const float *master, const Body &body) {
  if (master) body(std::integral_constant<Rounding, Rounding::MASTER>());
  else if (compensation) body(std::integral_constant<Rounding, Rounding::COMPENSATED>());
  else if (rng) body(std::integral_constant<Rounding, Rounding::STOCHASTIC>());
  else body(std::integral_constant<Rounding, Rounding::NEAREST>());
}
