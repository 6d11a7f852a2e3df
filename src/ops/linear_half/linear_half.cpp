// linear_half and linear_rows_half, CPU. Contracts: linear_half.ts in this folder.
#include "gemm.h"
#include "half.h"
#include "../linear_rows/few_rows.h"

KERNEL(linear_half)(const float *x, const half *weight, float *y, int64_t N, int64_t I, int64_t O, float alpha, float beta) {
  return gemm(rowMajor(x, I), transposed(weight, I), y, N, O, I, alpha, beta);
}

KERNEL(linear_rows_half)(const float *x, const half *first, const half *second, const half *third, float *y1, float *y2, float *y3,
                         int64_t N, int64_t I, int64_t O, int64_t P, int64_t Q, float alpha) {
  return linearRows<float, half>(x, {first, second, third}, {y1, y2, y3}, {O, P, Q}, N, I, alpha);
}
