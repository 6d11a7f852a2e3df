// ema, CPU. Contract and formula: ema.ts in this folder.
#include "../../tensor/chunks.h"

KERNEL(ema_update)(const T *values, float *average, int64_t N, float rest) {
  parallelFor(N, CHUNK, [=](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; i++) average[i] += rest * (float(values[i]) - average[i]);
  });
  return OK;
}

KERNEL(ema_load)(const float *average, T *values, T *saved, int64_t N) {
  parallelFor(N, CHUNK, [=](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; i++) {
      saved[i] = values[i];
      values[i] = T(average[i]);
    }
  });
  return OK;
}
