// preference, CUDA. Contract, formulas and source: preference.ts in this folder. A block takes a pair.
#include "kernel.cuh"

namespace {

constexpr int TERMS = 5;

/** -log sigmoid(x) without overflow. */
DEVICE float softplus(float x) { return (x < 0 ? -x : 0) + log1pf(expf(-fabsf(x))); }

}  // namespace

KERNEL preference(const float *terms, const float *reference, float *weights, float *rows, i64 B, i64 N, float beta,
                  float labelSmoothing, float scale) {
  const i64 b = blockIdx.x, other = B + b;
  double sum = 0;
  for (i64 t = threadIdx.x; t < N; t += blockDim.x)
    sum += double(terms[(other * N + t) * TERMS + 1]) - double(terms[(b * N + t) * TERMS + 1]);
  sum = acrossBlock<Sum>(sum) + double(reference[other]) - double(reference[b]);
  const float margin = float(beta * sum), eps = labelSmoothing;
  if (threadIdx.x == 0) {
    float *row = rows + b * 4;
    row[0] = (1 - eps) * softplus(margin) + eps * softplus(-margin);
    row[1] = 0;
    row[2] = margin > 0;
    row[3] = margin;
  }
  const float weight = scale * beta * ((1 - eps) * sigmoid(-margin) - eps * sigmoid(margin));
  for (i64 t = threadIdx.x; t < N; t += blockDim.x) {
    weights[b * N + t] = weight;
    weights[other * N + t] = -weight;
  }
}
