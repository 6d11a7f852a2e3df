// quantise_rows, CPU. Contract and formula: quantise_rows.ts in this folder.
#include <atomic>
#include "int8_rows.h"
#include "transpose.h"

namespace {

/** Packs rows of a panel, `count` of them. */
void pack(const Rows<int8_t> &rows, int64_t count, int8_t *to) {
  const int64_t I = rows.I;
  int64_t i = 0;
  for (; count == PANEL && i + GROUP * W <= I; i += GROUP * W)
    for (int first = 0; first < PANEL; first += W) {
      vec v[W];
#pragma GCC unroll 16
      for (int r = 0; r < W; r++) memcpy(&v[r], rows.q + (first + r) * rows.stride + i, sizeof v[r]);
      transpose(v);
#pragma GCC unroll 16
      for (int g = 0; g < W; g++) memcpy(to + i * PANEL + (g * PANEL + first) * GROUP, &v[g], sizeof v[g]);
    }
  for (to += i * count; i < I; i += GROUP)
    for (int64_t o = 0, terms = std::min<int64_t>(GROUP, I - i); o < count; o++, to += terms)
      memcpy(to, rows.q + o * rows.stride + i, terms);
}

}  // namespace

KERNEL(quantise_rows)(const T *weight, int8_t *values, float *scales, int64_t O, int64_t I) {
  std::atomic<bool> failed{false};
  const int64_t panels = (O + PANEL - 1) / PANEL;
  parallelFor(panels, std::max<int64_t>(1, (1 << 15) / (PANEL * I)), [&](int64_t begin, int64_t end) {
    static thread_local Scratch scratch;
    float *memory = scratch.floats(Rows<int8_t>::size(PANEL, I));
    if (!memory) {
      failed = true;
      return;
    }
    const Rows<int8_t> rows(memory, PANEL, I);
    for (int64_t p = begin; p < end; p++) {
      const int64_t first = p * PANEL, count = std::min<int64_t>(PANEL, O - first);
      for (int64_t o = 0; o < count; o++) rows.quantise(o, weight + (first + o) * I, 1);
      memcpy(scales + first, rows.steps, count * sizeof(float));
      pack(rows, count, values + first * I);
    }
  });
  return failed ? OUT_OF_MEMORY : OK;
}
