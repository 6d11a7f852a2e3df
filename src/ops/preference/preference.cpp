// preference, CPU. Contract, formulas and source: preference.ts in this folder. Pairs are few: one thread.
#include "kernel.h"

namespace {

constexpr int64_t TERMS = 5;

double sigmoid(double x) { return 1 / (1 + exp(-x)); }
/** -log sigmoid(x) without overflow. */
double softplus(double x) { return (x < 0 ? -x : 0) + log1p(exp(-fabs(x))); }

}  // namespace

KERNEL(preference)(const float *terms, const float *reference, float *weights, float *rows, int64_t B, int64_t N,
                   float beta, float labelSmoothing, float scale) {
  const auto score = [=](int64_t b) {
    double sum = -double(reference[b]);
    for (int64_t t = 0; t < N; t++) sum -= terms[(b * N + t) * TERMS + 1];
    return sum;
  };
  for (int64_t b = 0; b < B; b++) {
    const double margin = beta * (score(b) - score(B + b)), eps = labelSmoothing;
    float *row = rows + b * 4;
    row[0] = float((1 - eps) * softplus(margin) + eps * softplus(-margin));
    row[1] = 0;
    row[2] = margin > 0;
    row[3] = float(margin);
    const float weight = float(scale * beta * ((1 - eps) * sigmoid(-margin) - eps * sigmoid(margin)));
    for (int64_t t = 0; t < N; t++) {
      weights[b * N + t] = weight;
      weights[(B + b) * N + t] = -weight;
    }
  }
  return OK;
}
