// ema, CPU. Contract and formula: ema.ts in this folder.
#include "../../tensor/chunks.h"

KERNEL(ema_update)(const T *values, float *average, int64_t N, float rest) {
  parallelFor(N, CHUNK, [=](int64_t begin, int64_t end) {
    forVectors(begin, end, [=](int64_t i, auto n) {
      const vec old = load(average + i, n);
      store(average + i, old + rest * (load(values + i, n) - old), n);
    });
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
