// linear_float8, CUDA, where cublasLt cannot scale rows and columns: y = ALPHA xScales[n] scales[o] sums[n,o] (+ BETA y). Sums may be y.
#include "ahead.cuh"

KERNEL scale_float8(const RESULT *sums, const float *xScales, const float *scales, RESULT *y, i64 N, i64 O) {
  constexpr int EACH = 8;  // O is a multiple of it
  const i64 at = (i64(blockIdx.x) * blockDim.x + threadIdx.x) * EACH;
  if (at >= N * O) return;
  const i64 n = at / O;
  float v[EACH], s[EACH];
  load(scales + at - n * O, s);
  waitForEarlier();
  load(sums + at, v);
  const float scale = float(ALPHA) * xScales[n];
  for (int k = 0; k < EACH; k++) v[k] *= scale * s[k];
  if constexpr (float(BETA) != 0) {
    float old[EACH];
    load(y + at, old);
    for (int k = 0; k < EACH; k++) v[k] += float(BETA) * old[k];
  }
  store(y + at, v);
}
