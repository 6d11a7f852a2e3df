// rms_norm, add_rms_norm, wide_rms_norm, CPU. Contracts, formulas and source: the .ts files of these names.
#include "scratch.h"
#include "vector_math.h"

namespace {

/** y and rstd of a row. */
template <class X> void normalise(const X *x, const T *weight, T *y, float &rstd, int64_t D, float eps) {
  const float sumSq = vectorSum(D, [=](int64_t d, auto c) { return load(x + d, c) * load(x + d, c); });
  const float r = rstd = 1 / sqrtf(sumSq / D + eps);
  forVectors(0, D, [=](int64_t d, auto c) { store(y + d, load(x + d, c) * r * load(weight + d, c), c); });
}

/** Adds dsum to dx where it is given; gives normed where it is wanted. */
int backward(const T *dy, const T *dsum, const T *x, const T *weight, const float *rstd, float *dweight, T *dx,
             T *normed, int64_t N, int64_t D, float beta) {
  // A chunk of rows gives its dx and its part of dweight in one pass; the parts are added in order afterwards. Chunks
  // depend on N alone, so the bits do not depend on the number of threads.
  const int64_t rows = N <= 1024 ? 16 : (N + 63) / 64, chunks = (N + rows - 1) / rows;
  static thread_local Scratch scratch;
  float *parts = scratch.floats(chunks * D);
  if (!parts) return OUT_OF_MEMORY;
  parallelFor(N, rows, [=](int64_t begin, int64_t end) {
    float *part = parts + begin / rows * D;
    memset(part, 0, D * sizeof(float));
    for (int64_t n = begin; n < end; n++) {
      const T *dyn = dy + n * D, *xn = x + n * D;
      const float r = rstd[n];
      const float dot =
          vectorSum(D, [=](int64_t d, auto c) { return load(xn + d, c) * load(weight + d, c) * load(dyn + d, c); });
      const float along = dot * r * r * r / D;
      forVectors(0, D, [=](int64_t d, auto c) {
        const vec xd = load(xn + d, c), scaled = load(dyn + d, c) * r;
        const vec own = scaled * load(weight + d, c) - xd * along;
        store(dx + n * D + d, dsum ? own + load(dsum + n * D + d, c) : own, c);
        store(part + d, load(part + d, c) + scaled * xd, c);
      });
      if (normed)
        forVectors(0, D, [=](int64_t d, auto c) {
          store(normed + n * D + d, load(xn + d, c) * r * load(weight + d, c), c);
        });
    }
  });
  parallelFor(D, 256, [=](int64_t begin, int64_t end) {
    forVectors(begin, end, [=](int64_t d, auto c) {
      vec total = {};
      for (int64_t k = 0; k < chunks; k++) total += load(parts + k * D + d, c);
      store(dweight + d, beta == 0 ? total : total + load(dweight + d, c) * beta, c);
    });
  });
  return OK;
}

}  // namespace

KERNEL(rms_norm_forward)(const T *x, const T *weight, T *y, float *rstd, int64_t N, int64_t D, float eps) {
  parallelFor(N, 16, [=](int64_t begin, int64_t end) {
    for (int64_t n = begin; n < end; n++) normalise(x + n * D, weight, y + n * D, rstd[n], D, eps);
  });
  return OK;
}

KERNEL(add_rms_norm_forward)(const T *x, const T *y, const T *weight, T *normed, T *sum, float *rstd, int64_t N,
                             int64_t D, float eps) {
  parallelFor(N, 16, [=](int64_t begin, int64_t end) {
    for (int64_t n = begin; n < end; n++) {
      forVectors(n * D, n * D + D, [=](int64_t i, auto c) { store(sum + i, load(x + i, c) + load(y + i, c), c); });
      normalise(sum + n * D, weight, normed + n * D, rstd[n], D, eps);
    }
  });
  return OK;
}

KERNEL(wide_rms_norm)(const float *x, const T *weight, T *y, int64_t N, int64_t D, float eps) {
  parallelFor(N, 16, [=](int64_t begin, int64_t end) {
    float rstd;
    for (int64_t n = begin; n < end; n++) normalise(x + n * D, weight, y + n * D, rstd, D, eps);
  });
  return OK;
}

KERNEL(rms_norm_backward)(const T *dy, const T *x, const T *weight, const float *rstd, float *dweight, T *dx,
                          T *normed, int64_t N, int64_t D, float beta) {
  return backward(dy, nullptr, x, weight, rstd, dweight, dx, normed, N, D, beta);
}

KERNEL(add_rms_norm_backward)(const T *dnormed, const T *dsum, const T *sum, const T *weight, const float *rstd,
                              float *dweight, T *dx, T *normed, int64_t N, int64_t D, float beta) {
  return backward(dnormed, dsum, sum, weight, rstd, dweight, dx, normed, N, D, beta);
}
