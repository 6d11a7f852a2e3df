// cross_entropy, CPU. Contract, formulas and sources: cross_entropy.ts in this folder.
#include "log_sum_exp.h"

namespace {

constexpr int32_t IGNORED = -100;
constexpr int64_t TERMS = 5;

bool isFirstLargest(const T *x, int64_t label, float most) {
  if (float(x[label]) != most) return false;
  for (int64_t v = 0; v < label; v++)
    if (float(x[v]) == most) return false;
  return true;
}

}  // namespace

KERNEL(cross_entropy)(const int32_t *labels, const float *dloss, const float *weights, T *logits, float *terms,
                      int64_t N, int64_t V, float labelSmoothing, float zLoss, float scale, int32_t writeGradient) {
  for (int64_t n = 0; n < N; n++)
    if ((labels[n] < 0 || labels[n] >= V) && labels[n] != IGNORED) return BAD_INDEX;
  const float seed = dloss ? *dloss : 1;
  parallelFor(N, 1 + 32768 / V, [=](int64_t begin, int64_t end) {
    for (int64_t n = begin; n < end; n++) {
      T *x = logits + n * V;
      const int32_t label = labels[n];
      if (label == IGNORED) {
        if (terms) memset(terms + n * TERMS, 0, TERMS * sizeof(float));
        if (writeGradient) memset(x, 0, V * sizeof(T));
        continue;
      }
      const float share = weights ? scale * weights[n] : scale, factor = share * seed;
      float most, lse;
      logSumExp(x, V, most, lse);
      const float atLabel = x[label], nll = lse - atLabel;
      if (terms) {
        float smoothing = 0;
        if (labelSmoothing != 0)
          smoothing = labelSmoothing * (atLabel - vectorSum(V, [=](int64_t i, auto c) { return load(x + i, c); }) / V);
        const float z = zLoss * lse * lse;
        float *row = terms + n * TERMS;
        row[0] = share * (nll + smoothing + z);
        row[1] = nll;
        row[2] = z;
        row[3] = isFirstLargest(x, label, most);
        row[4] = 1;
      }
      if (!writeGradient) continue;
      const float a = factor * (1 + 2 * zLoss * lse), b = factor * labelSmoothing / V;
      forVectors(0, V, [=](int64_t i, auto c) { store(x + i, a * exponential(load(x + i, c) - lse) - b, c); });
      x[label] = T(a * expf(-nll) - b - factor * (1 - labelSmoothing));
    }
  });
  return OK;
}
