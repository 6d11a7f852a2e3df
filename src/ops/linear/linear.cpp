// linear, CPU: products of one engine. Contracts and formulas: linear.ts, linear_add.ts, linear_several.ts, linear_group.ts in this folder.
#include "gemm.h"

KERNEL(linear_forward)(const T *x, const T *weight, T *y, int64_t N, int64_t I, int64_t O, float alpha) {
  return gemm(rowMajor(x, I), transposed(weight, I), y, N, O, I, alpha, 0);
}

KERNEL(linear_backward_input)(const T *dy, const T *weight, T *dx, int64_t N, int64_t O, int64_t I, float alpha,
                              float beta) {
  return gemm(rowMajor(dy, O), rowMajor(weight, I), dx, N, I, O, alpha, beta);
}

KERNEL(linear_backward_weight)(const T *dy, const T *x, float *dweight, int64_t N, int64_t O, int64_t I, float alpha,
                               float beta) {
  return gemm(transposed(dy, O), rowMajor(x, I), dweight, O, I, N, alpha, beta);
}

KERNEL(linear_add)(const T *x, const T *weight, float *y, int64_t N, int64_t I, int64_t O, float alpha, float beta) {
  return gemm(rowMajor(x, I), transposed(weight, I), y, N, O, I, alpha, beta);
}

KERNEL(linear_several)(const T *x, const T *first, const T *second, const T *third, T *y1, T *y2, T *y3, int64_t N, int64_t I,
                       int64_t O, int64_t P, int64_t Q) {
  const Right<T, T> rights[] = {{transposed(first, I), y1, O}, {transposed(second, I), y2, P}, {transposed(third, I), y3, Q}};
  return gemms(rowMajor(x, I), rights, Q > 0 ? 3 : 2, N, I, 1, 0);
}

KERNEL(linear_group)(const T *x, const T *weight, T *y, int64_t N, int64_t I, int64_t G, int64_t O) {
  for (int64_t g = 0; g < G; g++) {
    const int code = gemm(rowMajor(x, I), transposed(weight + g * O * I, I), y + g * N * O, N, O, I, 1, 0);
    if (code != OK) return code;
  }
  return OK;
}
