// quantise_rows, CPU. Contract and formula: quantise_rows.ts in this folder.
#include "int8_rows.h"

KERNEL(quantise_rows)(const T *weight, int8_t *values, float *scales, int64_t O, int64_t I) {
  const int64_t whole = I / W * W;
  parallelFor(O, std::max<int64_t>(1, (1 << 15) / I), [=](int64_t begin, int64_t end) {
    for (int64_t o = begin; o < end; o++) {
      const RowScale scale(weight + o * I, I, 1);
      scales[o] = scale.step;
      ivec sums{};
      for (int64_t i = 0; i < whole; i += W) scale.quantise(load(weight + o * I + i), values + o * I + i, sums);
      int8_t rest[W];
      if (whole < I) scale.quantise(load(weight + o * I + whole, I - whole), rest, sums);
      for (int64_t i = whole; i < I; i++) values[o * I + i] = rest[i - whole];
    }
  });
  return OK;
}
