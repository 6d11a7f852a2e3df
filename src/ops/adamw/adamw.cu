// adamw, CUDA. Contract, formula and sources: adamw.ts in this folder. One launch for all parameters: blocks (chunk, slice).
#include "update.cuh"

namespace {

constexpr float MIN_SCALE = 1e-3f;

struct Hyper {
  float beta1, oneMinusBeta1, beta2, oneMinusBeta2, step, eps, rate, after, maxNorm;
};

template <class State>
DEVICE void update(const float *gradients, const Chunk *chunks, const int *lengths, const float *decay,
                   const float *norms, const float *norm, const Hyper *hyper, const int *rng, T *values, State *first,
                   State *second, T *compensation, float *master) {
  if (!isFinite(*norm)) return;
  const Hyper h = *hyper;
  const Chunk chunk = chunks[blockIdx.x];
  const int p = chunk.parameter;
  const float clip = clipFactor(*norm, h.maxNorm);
  const float scale = norms ? parameterScale(norms[p], float(lengths[p]), MIN_SCALE) : 1;
  const float lost = h.rate * decay[p], step = h.step * scale * (1 - h.after * lost);
  const i64 i = i64(chunk.start) * UNIT, s = i64(chunk.state) * UNIT;
  gradients += i;
  first += s;
  second += s;
  const Target target{values + i, at(compensation, s), at(master, s), rng, 0, i};
  const bool whole = aligned(gradients, first, second, target.values, target.compensation, target.master);
  withRounding(target, [=](auto rounding) {
    constexpr Rounding R = decltype(rounding)::value;
    forSlice(chunk.count, whole, [=](int k, auto n) {
      float g[n.value], m[n.value], v[n.value], old[n.value];
      load(gradients + k, g);
      load(first + k, m);
      load(second + k, v);
      loadOld<R>(target, k, old);
      for (int j = 0; j < n.value; j++) {
        g[j] *= clip;
        m[j] = h.beta1 * m[j] + h.oneMinusBeta1 * g[j];
        v[j] = h.beta2 * v[j] + h.oneMinusBeta2 * g[j] * g[j];
        g[j] = -step * __fdividef(m[j], squareRoot(v[j]) + h.eps) - lost * old[j];
      }
      store(first + k, m);
      store(second + k, v);
      applyChange<R>(target, k, old, g);
    });
  });
}

}  // namespace

KERNEL adamw(const float *gradients, const Chunk *chunks, const int *lengths, const float *decay, const float *norms,
             const float *norm, const Hyper *hyper, const int *rng, T *values, float *first, float *second,
             T *compensation, float *master) {
  update(gradients, chunks, lengths, decay, norms, norm, hyper, rng, values, first, second, compensation, master);
}

KERNEL adamw_compact(const float *gradients, const Chunk *chunks, const int *lengths, const float *decay,
                     const float *norms, const float *norm, const Hyper *hyper, const int *rng, T *values, T *first,
                     T *second, T *compensation, float *master) {
  update(gradients, chunks, lengths, decay, norms, norm, hyper, rng, values, first, second, compensation, master);
}
