// Matrix products: C[M,N] = alpha * A[M,K] B[K,N] + beta * C. Operands of float, bfloat16 or half, sums in float.
#pragma once
#include "kernel.h"

/** A matrix in memory: element (i, j) at data[i * rowStep + j * columnStep]; one of the steps is 1. */
template <class E> struct Operand {
  const E *data;
  int64_t rowStep, columnStep;
};

/** The matrix whose rows lie `stride` elements apart. */
template <class E> Operand<E> rowMajor(const E *data, int64_t stride) { return {data, stride, 1}; }

/** The transpose of the matrix whose rows lie `stride` elements apart. */
template <class E> Operand<E> transposed(const E *data, int64_t stride) { return {data, 1, stride}; }

/**
 * C[M,N] = alpha * A[M,K] B[K,N] + beta * C, C row-major without gaps; with beta 0 the old C is not read. Uses all
 * threads; the bits of a row of C depend neither on their number nor on that of the rows. For (A, B, C) of (float, float, float), (bf16, bf16, bf16),
 * (bf16, bf16, float), (float, half, float).
 * Returns OK, or -1 when there is no memory for the packed operands.
 */
template <class E, class F, class R>
int gemm(Operand<E> a, Operand<F> b, R *c, int64_t M, int64_t N, int64_t K, float alpha, float beta);

/** One of the products of an A: C[M,N] of B[K,N]. */
template <class F, class R> struct Right {
  Operand<F> b;
  R *c;
  int64_t N;
};

/** The same for up to three B at once, which costs less where there are few rows. */
template <class E, class F, class R>
int gemms(Operand<E> a, const Right<F, R> *rights, int count, int64_t M, int64_t K, float alpha, float beta);
