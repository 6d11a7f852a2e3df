// A few rows times a transposed matrix (decoding): dot products with the rows of B^T as they lie in memory. Reading B is
// what this costs, so that nothing is packed but the few rows.
#pragma once
#include <algorithm>
#include "gemm.h"
#include "vector_math.h"

constexpr int64_t FEW_ROWS = W == 16 ? 14 : 8;
constexpr int ROW_GROUP = 6;  // rows that share one pass over a row of B^T
constexpr int64_t TASK_BYTES = 1 << 16;

/** Rows of B^T that are read side by side: what the registers hold. */
#if defined(__AVX512F__) || defined(__aarch64__)
constexpr int columnGroup(int rows) { return rows > 2 ? 4 : 8; }
#else
constexpr int columnGroup(int rows) { return rows > 2 ? 2 : 4; }
#endif

template <int N> struct Floats {
  typedef float type __attribute__((vector_size(4 * N)));
};

/** The sum of N floats, by halves. */
template <int N> inline float treeSum(typename Floats<N>::type v) {
  if constexpr (N == 2) {
    return v[0] + v[1];
  } else {
    typename Floats<N / 2>::type halves[2];
    memcpy(halves, &v, sizeof v);
    return treeSum<N / 2>(halves[0] + halves[1]);
  }
}

/** One result per row of x and column of B; x's rows are padded with zeros to whole vectors and lie `xStride` apart. */
template <class F, class R> struct FewRows {
  const float *x;
  int64_t xStride;
  Operand<F> b;
  R *c;
  int64_t N, K;
  float alpha, beta;
};

template <int ROWS, int COLUMNS, class F, class R> void dots(const FewRows<F, R> &p, int64_t m, int64_t n) {
  vec sums[ROWS][COLUMNS];
  const float *x = p.x + m * p.xStride;
  const F *w = p.b.data + n * p.b.columnStep;
#pragma GCC unroll 8
  for (int r = 0; r < ROWS; r++)
#pragma GCC unroll 8
    for (int c = 0; c < COLUMNS; c++) sums[r][c] = vec{};
  forVectors(0, p.K, [&](int64_t k, auto part) {
    vec columns[COLUMNS];
#pragma GCC unroll 8
    for (int c = 0; c < COLUMNS; c++) {
      columns[c] = load(w + c * p.b.columnStep + k, part);
      __builtin_prefetch(w + (c + COLUMNS) * p.b.columnStep + k);  // the rows that come next
    }
#pragma GCC unroll 8
    for (int r = 0; r < ROWS; r++) {
      const vec row = load(x + r * p.xStride + k);
#pragma GCC unroll 8
      for (int c = 0; c < COLUMNS; c++) sums[r][c] += row * columns[c];
    }
  });
#pragma GCC unroll 8
  for (int r = 0; r < ROWS; r++)
#pragma GCC unroll 8
    for (int c = 0; c < COLUMNS; c++) {
      R &out = p.c[(m + r) * p.N + n + c];
      out = R(p.alpha * treeSum<W>(sums[r][c]) + (p.beta == 0 ? 0 : p.beta * float(out)));
    }
}

template <int ROWS, class F, class R>
void rowGroup(const FewRows<F, R> &p, int64_t m, int64_t begin, int64_t end) {
  constexpr int COLUMNS = columnGroup(ROWS);
  int64_t n = begin;
  for (; n + COLUMNS <= end; n += COLUMNS) dots<ROWS, COLUMNS>(p, m, n);
  for (; n < end; n++) dots<ROWS, 1>(p, m, n);
}

/** gemm for at most FEW_ROWS rows; B's columns are contiguous. `x` holds M rows of K floats rounded up to W. */
template <class E, class F, class R>
int fewRows(Operand<E> a, Operand<F> b, R *c, int64_t M, int64_t N, int64_t K, float alpha, float beta, float *x) {
  const int64_t stride = (K + W - 1) / W * W;
  for (int64_t m = 0; m < M; m++)
    for (int64_t k = 0; k < stride; k++) x[m * stride + k] = k < K ? float(a.data[m * a.rowStep + k]) : 0;
  const FewRows<F, R> p{x, stride, b, c, N, K, alpha, beta};
  const int64_t rowBytes = K * int64_t(sizeof(F)), groups = (M + ROW_GROUP - 1) / ROW_GROUP;
  const int64_t grain = std::max<int64_t>(1, TASK_BYTES / 8 / rowBytes) * 8;
  parallelFor(N, N * rowBytes < 4 * TASK_BYTES ? N : grain, [&](int64_t begin, int64_t end) {
    for (int64_t n = begin; n < end; n += 8)  // all rows of x while these rows of B^T are in the cache
      for (int64_t g = 0; g < groups; g++) {
        const int64_t m = g * M / groups, last = std::min(end, n + 8);
        switch ((g + 1) * M / groups - m) {
          case 1: rowGroup<1>(p, m, n, last); break;
          case 2: rowGroup<2>(p, m, n, last); break;
          case 3: rowGroup<3>(p, m, n, last); break;
          case 4: rowGroup<4>(p, m, n, last); break;
          case 5: rowGroup<5>(p, m, n, last); break;
          default: rowGroup<6>(p, m, n, last);
        }
      }
  });
  return OK;
}
