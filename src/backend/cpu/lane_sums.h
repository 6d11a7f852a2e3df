// Sums over the lanes of many registers at once, for dot products that are formed side by side.
#pragma once
#include <utility>
#include "vector_math.h"

template <int HALF, class V, int... I> inline V mergeHalves(V a, V b, std::integer_sequence<int, I...>) {
  constexpr ivec low = {(I / HALF * 2 * HALF + I % HALF)...};
  constexpr ivec high = {(I / HALF * 2 * HALF + I % HALF + HALF)...};
  return __builtin_shuffle(a, b, low) + __builtin_shuffle(a, b, high);
}

/** Adds up the lanes of COUNT registers by halves until each has W / COUNT left: the first W / COUNT lanes are v[0]'s. */
template <int COUNT, class V> inline V laneSums(const V *v) {
  if constexpr (COUNT == 1) return v[0];
  else
    return mergeHalves<W / COUNT>(laneSums<COUNT / 2>(v), laneSums<COUNT / 2>(v + COUNT / 2),
                                  std::make_integer_sequence<int, W>());
}
