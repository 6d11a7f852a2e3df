// adamw, CPU. Contract, formula and sources: adamw.ts in this folder.
#include "../update.h"

namespace {

constexpr float MIN_SCALE = 1e-3f;

struct Hyper {
  float beta1, oneMinusBeta1, beta2, oneMinusBeta2, step, eps, rate, after, maxNorm;
};

struct Factors {
  float clip, step, lost;
};

template <Rounding R, class State>
void updateChunk(int64_t count, const Hyper h, const Factors f, const float *gradients, State *first, State *second,
                 const Target &target) {
  applyChanges<R>(count, target, [=](int64_t i, auto n, vec old) {
    ahead(i, gradients, first, second, target.values);
    const vec g = f.clip * load(gradients + i, n);
    const vec m = h.beta1 * load(first + i, n) + h.oneMinusBeta1 * g;
    const vec v = h.beta2 * load(second + i, n) + h.oneMinusBeta2 * g * g;
    store(first + i, m, n);
    store(second + i, v, n);
    return -f.step * m / (squareRoot(v) + h.eps) - f.lost * old;
  });
}

template <class State>
int update(const float *gradients, const int32_t *chunks, const int32_t *lengths, const float *decay,
           const float *norms, const float *norm, const float *hyper, const int32_t *rng, T *values, State *first,
           State *second, T *compensation, float *master, int64_t C) {
  if (!std::isfinite(*norm)) return OK;
  const Chunk *table = reinterpret_cast<const Chunk *>(chunks);
  Hyper h;
  memcpy(&h, hyper, sizeof h);
  const float clip = clipFactor(*norm, h.maxNorm);
  withRounding(compensation, rng, master, [=](auto rounding) {
    parallelFor(C, 1, [=](int64_t begin, int64_t end) {
      for (int64_t c = begin; c < end; c++) {
        const auto [start, count, p, state] = table[c];
        const float scale = norms ? parameterScale(norms[p], float(lengths[p]), MIN_SCALE) : 1;
        const float lost = h.rate * decay[p];
        const int64_t i = start * UNIT, s = state * UNIT;
        updateChunk<rounding.value>(count, h, {clip, h.step * scale * (1 - h.after * lost), lost}, gradients + i,
                                    first + s, second + s, {values + i, at(compensation, s), at(master, s), rng, 0, i});
      }
    });
  });
  return OK;
}

}  // namespace

KERNEL(adamw)(const float *gradients, const int32_t *chunks, const int32_t *lengths, const float *decay,
              const float *norms, const float *norm, const float *hyper, const int32_t *rng, T *values, float *first,
              float *second, T *compensation, float *master, int64_t, int64_t C, int64_t, int64_t) {
  return update(gradients, chunks, lengths, decay, norms, norm, hyper, rng, values, first, second, compensation, master, C);
}

KERNEL(adamw_compact)(const float *gradients, const int32_t *chunks, const int32_t *lengths, const float *decay,
                      const float *norms, const float *norm, const float *hyper, const int32_t *rng, T *values,
                      T *first, T *second, T *compensation, float *master, int64_t, int64_t C, int64_t, int64_t) {
  return update(gradients, chunks, lengths, decay, norms, norm, hyper, rng, values, first, second, compensation, master, C);
}
