// What the optimizers' kernels share: clipping, the scale by RMS, and how changes reach parameters.
#pragma once
#include "chunks.cuh"

DEVICE bool isFinite(float x) { return fabsf(x) < infinity(); }

/** What gradients are multiplied by so that their global norm is at most maxNorm. */
DEVICE float clipFactor(float norm, float maxNorm) { return fminf(1, maxNorm / (norm + 1e-6f)); }

/** max(smallest, RMS) of a parameter of n elements from its L2 norm. */
DEVICE float parameterScale(float norm, float n, float smallest) { return fmaxf(smallest, norm / sqrtf(n)); }

DEVICE float squareRoot(float x) {
  float y;
  asm("sqrt.approx.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
}

/** How a changed value becomes a T: to the nearest; the same, keeping what that loses, or all of it; up or down by chance. */
enum class Rounding { NEAREST, COMPENSATED, MASTER, STOCHASTIC };
template <Rounding R> struct RoundingIs {
  static constexpr Rounding value = R;
};

/** x rounded to one of its two neighbours in T, the nearer the likelier, so that the mean over words is x. */
DEVICE float roundByChance(float x, unsigned, const float *) { return x; }
DEVICE float roundByChance(float x, unsigned word, const bf16 *) {
  return __uint_as_float((__float_as_uint(x) + (word >> 16)) & 0xffff0000u);
}
DEVICE float roundByChance(float x, unsigned word, const f16 *) {
  return __uint_as_float((__float_as_uint(x) + (word >> 19)) & 0xffffe000u);
}

/** The same place in an array that may be absent. */
template <class X> DEVICE X *at(X *array, i64 i) { return array ? array + i : array; }

/** Where and how a run of changes is applied: pointers at its first element. */
struct Target {
  T *values, *compensation;
  float *master;
  const int *rng;  // [seed, step]
  int site;
  i64 element;  // of the first value: random words belong to (rng, site, element), as on the CPU
};

/** What a change is added to. */
template <Rounding R, int N> DEVICE void loadOld(const Target &from, i64 k, float (&old)[N]) {
  if constexpr (R == Rounding::MASTER) load(from.master + k, old);
  else load(from.values + k, old);
}

/** values[k] = old + change for some of a run. */
template <Rounding R, int N> DEVICE void applyChange(const Target &to, i64 k, const float (&old)[N], float (&change)[N]) {
  float next[N];
  if constexpr (R == Rounding::COMPENSATED) {
    load(to.compensation + k, next);
    for (int j = 0; j < N; j++) change[j] += next[j];
  }
  for (int j = 0; j < N; j++) next[j] = old[j] + change[j];
  if constexpr (R == Rounding::STOCHASTIC) {
    for (int j = 0; j < N; j += 4) {
      const i64 start = (k + j) / 64 * 64, within = (k + j) % 64;
      const uint4 four = philox((to.element + start) * 16 + within / 4, to.rng[1], to.rng[0], to.site);
      if constexpr (N == 1) {
        const unsigned lane = within % 4, word = lane == 0 ? four.x : lane == 1 ? four.y : lane == 2 ? four.z : four.w;
        next[0] = roundByChance(next[0], word, to.values);
      } else {
        const unsigned words[] = {four.x, four.y, four.z, four.w};
        for (int lane = 0; lane < 4; lane++) next[j + lane] = roundByChance(next[j + lane], words[lane], to.values);
      }
    }
  }
  store(to.values + k, next);
  if constexpr (R == Rounding::MASTER) store(to.master + k, next);
  if constexpr (R == Rounding::COMPENSATED) {
    for (int j = 0; j < N; j++) change[j] -= float(T(next[j])) - old[j];
    store(to.compensation + k, change);
  }
}

/** Calls body with the rounding that the given arguments mean, as a compile-time constant. */
template <class Body> DEVICE void withRounding(const Target &target, const Body &body) {
  if (target.master) body(RoundingIs<Rounding::MASTER>());
  else if (target.compensation) body(RoundingIs<Rounding::COMPENSATED>());
  else if (target.rng) body(RoundingIs<Rounding::STOCHASTIC>());
  else body(RoundingIs<Rounding::NEAREST>());
}

/** body(k, n) for the part of a run of `count` elements that falls to this thread of block (x, blockIdx.y of gridDim.y). */
template <class Body> DEVICE void forSlice(int count, bool whole, const Body &body) {
  const int slice = CHUNK / gridDim.y, first = blockIdx.y * slice, end = min(count, first + slice);
  if (!whole) {
    for (int k = first + threadIdx.x; k < end; k += blockDim.x) body(k, Count<1>());
    return;
  }
  int k = first + threadIdx.x * VECTOR;
  for (; k + VECTOR <= end; k += blockDim.x * VECTOR) body(k, Count<VECTOR>());
  for (; k < end; k++) body(k, Count<1>());  // the one thread that has a broken run
}
