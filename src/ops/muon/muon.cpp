// muon, CPU. Contract, formula and sources: muon.ts in this folder.
#include "../update.h"

namespace {

constexpr float MIN_SCALE = 1e-3f;

struct Hyper {
  float beta, oneMinusBeta, rate, maxNorm;
};

}  // namespace

KERNEL(muon_momentum)(const float *gradient, const float *norm, const float *hyper, float *momentum, float *direction,
                      float *partial, int64_t N, int64_t K) {
  if (!std::isfinite(*norm)) return OK;
  Hyper h;
  memcpy(&h, hyper, sizeof h);
  const float clip = clipFactor(*norm, h.maxNorm);
  parallelFor(N, CHUNK, [=](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; i++) {
      const float g = clip * gradient[i];
      momentum[i] = h.beta * momentum[i] + h.oneMinusBeta * g;
      direction[i] = h.oneMinusBeta * g + h.beta * momentum[i];
    }
    partial[begin / CHUNK] = sumSquares(direction + begin, end - begin);
  });
  double sum = 0;
  for (int64_t k = 0; k < K; k++) sum += partial[k];
  const float shrink = float(1 / (sqrt(sum) + 1e-7));
  parallelFor(N, CHUNK, [=](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; i++) direction[i] *= shrink;
  });
  return OK;
}

KERNEL(muon_update)(const float *direction, const float *norms, const float *norm, const float *hyper,
                    const int32_t *rng, T *values, T *compensation, float *master, int64_t N, float gain, float decay, int32_t site) {
  if (!std::isfinite(*norm)) return OK;
  Hyper h;
  memcpy(&h, hyper, sizeof h);
  const float lost = h.rate * decay;
  const float step = -h.rate * parameterScale(*norms, float(N), MIN_SCALE) * gain * (1 - lost);
  withRounding(compensation, rng, master, [=](auto rounding) {
    parallelFor(N, CHUNK, [=](int64_t begin, int64_t end) {
      const float *d = direction + begin;
      applyChanges<rounding.value>(end - begin, {values + begin, at(compensation, begin), at(master, begin), rng, site, begin},
                                   [=](int64_t i, auto n, vec old) { return step * load(d + i, n) - lost * old; });
    });
  });
  return OK;
}
