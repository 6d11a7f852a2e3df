// linear_rows, CPU. Contract: linear_rows.ts in this folder.
#include "few_rows.h"

KERNEL(linear_rows)(const T *x, const T *first, const T *second, const T *third, T *y1, T *y2, T *y3, int64_t N,
                    int64_t I, int64_t O, int64_t P, int64_t Q, float alpha) {
  return linearRows<T, T>(x, {first, second, third}, {y1, y2, y3}, {O, P, Q}, N, I, alpha);
}
