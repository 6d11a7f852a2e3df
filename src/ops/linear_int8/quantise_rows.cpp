// quantise_rows, CPU. Contract and formula: quantise_rows.ts in this folder.
#include <atomic>
#include "int8_rows.h"

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
      int8_t *to = values + first * I;
      for (int64_t i = 0; i < I; i += GROUP)
        for (int64_t o = 0, terms = std::min<int64_t>(GROUP, I - i); o < count; o++, to += terms)
          memcpy(to, rows.q + o * rows.stride + i, terms);
    }
  });
  return failed ? OUT_OF_MEMORY : OK;
}
