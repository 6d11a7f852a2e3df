// muon, CUDA. Contract, formula and sources: muon.ts in this folder. Blocks (chunk, slice).
#include "update.cuh"

namespace {

constexpr float MIN_SCALE = 1e-3f;

struct Hyper {
  float beta, oneMinusBeta, rate, maxNorm;
};

DEVICE i64 chunkStart() { return i64(blockIdx.x) * CHUNK; }
DEVICE int chunkLength(i64 N) { return int(chunkStart() + CHUNK < N ? CHUNK : N - chunkStart()); }

}  // namespace

KERNEL muon_momentum(const float *gradient, const float *norm, const Hyper *hyper, float *momentum, float *direction,
                     float *partial, i64 N) {
  if (!isFinite(*norm)) return;
  const Hyper h = *hyper;
  const float clip = clipFactor(*norm, h.maxNorm);
  gradient += chunkStart();
  momentum += chunkStart();
  direction += chunkStart();
  float square = 0;
  forSlice(chunkLength(N), aligned(gradient, momentum, direction), [&](int k, auto n) {
    float g[n.value], m[n.value];
    load(gradient + k, g);
    load(momentum + k, m);
    for (int j = 0; j < n.value; j++) {
      g[j] *= clip;
      m[j] = h.beta * m[j] + h.oneMinusBeta * g[j];
      g[j] = h.oneMinusBeta * g[j] + h.beta * m[j];
      square += g[j] * g[j];
    }
    store(momentum + k, m);
    store(direction + k, g);
  });
  square = acrossBlock<Sum>(square);
  if (threadIdx.x == 0) partial[blockIdx.x] = square;
}

KERNEL muon_normalise(const float *norm, const float *partial, float *direction, i64 N, i64 K) {
  if (!isFinite(*norm)) return;
  double sum = 0;
  for (i64 k = threadIdx.x; k < K; k += blockDim.x) sum += partial[k];
  const float shrink = float(1 / (sqrt(acrossBlock<Sum>(sum)) + 1e-7));
  direction += chunkStart();
  forSlice(chunkLength(N), aligned(direction), [=](int k, auto n) {
    float d[n.value];
    load(direction + k, d);
    for (float &value : d) value *= shrink;
    store(direction + k, d);
  });
}

KERNEL muon_update(const float *direction, const float *norms, const float *norm, const Hyper *hyper, const int *rng,
                   T *values, T *compensation, float *master, i64 N, float gain, float decay, int site) {
  if (!isFinite(*norm)) return;
  const Hyper h = *hyper;
  const float lost = h.rate * decay;
  const float step = -h.rate * parameterScale(*norms, float(N), MIN_SCALE) * gain * (1 - lost);
  direction += chunkStart();
  const Target target{values + chunkStart(), at(compensation, chunkStart()), at(master, chunkStart()), rng, site, chunkStart()};
  const bool whole = aligned(direction, target.values, target.compensation, target.master);
  withRounding(target, [=](auto rounding) {
    constexpr Rounding R = decltype(rounding)::value;
    forSlice(chunkLength(N), whole, [=](int k, auto n) {
      float d[n.value], old[n.value];
      load(direction + k, d);
      loadOld<R>(target, k, old);
      for (int j = 0; j < n.value; j++) d[j] = step * d[j] - lost * old[j];
      applyChange<R>(target, k, old, d);
    });
  });
}
