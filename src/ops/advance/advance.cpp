// advance, CPU. Contract: advance.ts in this folder.
#include "kernel.h"

KERNEL(advance)(const int32_t *chosen, const int32_t *eos, int32_t *token, int32_t *ended, int32_t *position,
                int32_t *history, int64_t R, int64_t E, int64_t C, int32_t pad) {
  for (int64_t r = 0; r < R; r++)
    if (position[r] < 0) return BAD_INDEX;
  for (int64_t r = 0; r < R; r++) {
    if (position[r] >= C) continue;
    const int32_t id = ended[r] ? pad : chosen[r];
    history[r * C + position[r]++] = id;
    token[r] = id;
    for (int64_t e = 0; e < E; e++)
      if (id == eos[e]) ended[r] = 1;
  }
  return OK;
}
