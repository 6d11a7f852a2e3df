// linear_float8, scale_float8, CUDA: y[g,n,o] = ALPHA xScales[n] scales[g,o] sums[g,n,o] (+ BETA y[g,n,o]). Sums may be y.
#include "ahead.cuh"

KERNEL scale_float8(const float *xScales, const float *scales, const SUMS *sums, RESULT *y, i64 N, i64 O) {
  constexpr int EACH = 8;  // O is a multiple of it
  const i64 at = (i64(blockIdx.x) * blockDim.x + threadIdx.x) * EACH;
  if (at >= MATRICES * N * O) return;
  const i64 row = at / O, o = at - row * O, g = row / N;
  float v[EACH], s[EACH];
  load(scales + g * O + o, s);
  waitForEarlier();
  load(sums + at, v);
  const float scale = float(ALPHA) * xScales[row - g * N];
  for (int k = 0; k < EACH; k++) v[k] *= scale * s[k];
  if constexpr (float(BETA) != 0) {
    float old[EACH];
    load(y + at, old);
    for (int k = 0; k < EACH; k++) v[k] += float(BETA) * old[k];
  }
  store(y + at, v);
}
