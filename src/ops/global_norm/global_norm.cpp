// global_norm, parameter_norms, CPU. Contracts and formulas: global_norm.ts in this folder.
#include "../../tensor/chunks.h"

KERNEL(global_norm)(const T *x, float *norm, float *partial, int64_t N, int64_t K) {
  parallelFor(N, CHUNK, [=](int64_t begin, int64_t end) { partial[begin / CHUNK] = sumSquares(x + begin, end - begin); });
  double sum = 0;
  for (int64_t k = 0; k < K; k++) sum += partial[k];
  *norm = float(sqrt(sum));
  return OK;
}

KERNEL(parameter_norms)(const T *x, const int32_t *chunks, float *norms, float *partial, int64_t, int64_t C,
                        int64_t P) {
  const Chunk *table = reinterpret_cast<const Chunk *>(chunks);
  parallelFor(C, 1, [=](int64_t begin, int64_t end) {
    for (int64_t c = begin; c < end; c++) partial[c] = sumSquares(x + table[c].start * UNIT, table[c].count);
  });
  for (int64_t p = 0, c = 0; p < P; p++) {
    double sum = 0;
    for (; c < C && table[c].parameter == p; c++) sum += partial[c];
    norms[p] = float(sqrt(sum));
  }
  return OK;
}
