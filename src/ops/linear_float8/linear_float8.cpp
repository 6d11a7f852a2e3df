// linear_float8, linear_float8_add, quantise_float8, CPU: float products of what float8 numbers stand for. Contracts: linear_float8.ts,
// quantise_float8.ts in this folder.
#include "float8.h"
#include "gemm.h"
#include "scratch.h"

namespace {

constexpr float LEAST = 1e-30f;
constexpr int64_t SPLIT = 1 << 15;  // elements of a chunk of work

void widen(const uint8_t *from, const float *scales, float *to, int64_t rows, int64_t width) {
  static const Float8Values values;
  parallelFor(rows, std::max<int64_t>(1, SPLIT / width), [=](int64_t begin, int64_t end) {
    for (int64_t n = begin; n < end; n++)
      for (int64_t i = n * width; i < (n + 1) * width; i++) to[i] = values.of[from[i]] * scales[n];
  });
}

/** sums[N,O] = alpha x weight^T (+ beta sums), sums null where they are kept here. @returns them, null when memory ran out */
float *product(const uint8_t *x, const float *xScales, const uint8_t *weight, const float *scales, float *sums, int64_t N,
               int64_t I, int64_t O, float alpha, float beta) {
  static thread_local Scratch scratch;
  float *a = scratch.floats(N * I + O * I + (sums ? 0 : N * O));
  if (!a) return nullptr;
  float *b = a + N * I;
  if (!sums) sums = b + O * I;
  widen(x, xScales, a, N, I);
  widen(weight, scales, b, O, I);
  return gemm(rowMajor(a, I), transposed(b, I), sums, N, O, I, alpha, beta) == OK ? sums : nullptr;
}

}  // namespace

KERNEL(quantise_float8)(const T *x, uint8_t *values, float *scales, int64_t N, int64_t I) {
  parallelFor(N, std::max<int64_t>(1, SPLIT / I), [=](int64_t begin, int64_t end) {
    for (int64_t n = begin; n < end; n++) {
      const T *row = x + n * I;
      float most = 0;
      for (int64_t i = 0; i < I; i++) {
        const float size = std::fabs(float(row[i]));
        if (!(size <= most)) most = most != most ? most : size;  // NaN stays
      }
      const bool finite = most <= 3.402823466e38f, some = finite && most >= LEAST;
      scales[n] = !finite ? NAN : some ? most / FLOAT8_LARGEST : 0;
      const float inverse = FLOAT8_LARGEST / most;
      for (int64_t i = 0; i < I; i++) values[n * I + i] = some ? toFloat8(float(row[i]) * inverse) : 0;
    }
  });
  return OK;
}

KERNEL(linear_float8)(const uint8_t *x, const float *xScales, const uint8_t *weight, const float *scales, T *y, int64_t N,
                      int64_t I, int64_t O, float alpha) {
  const float *sums = product(x, xScales, weight, scales, nullptr, N, I, O, alpha, 0);
  if (!sums) return OUT_OF_MEMORY;
  parallelFor(N, std::max<int64_t>(1, SPLIT / O), [=](int64_t begin, int64_t end) {
    for (int64_t i = begin * O; i < end * O; i++) y[i] = T(sums[i]);
  });
  return OK;
}

KERNEL(linear_float8_add)(const uint8_t *x, const float *xScales, const uint8_t *weight, const float *scales, float *y,
                          int64_t N, int64_t I, int64_t O, float alpha, float beta) {
  return product(x, xScales, weight, scales, y, N, I, O, alpha, beta) ? OK : OUT_OF_MEMORY;
}
