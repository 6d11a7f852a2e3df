// Matrix products, see gemm.h.
#include "gemm.h"
#include <vector>

template <class E, class R>
int gemm(Operand<E> a, Operand<E> b, R *c, int64_t M, int64_t N, int64_t K, float alpha, float beta) {
  parallelFor(M, 4, [=](int64_t begin, int64_t end) {
    std::vector<float> sums(N);
    for (int64_t m = begin; m < end; m++) {
      for (float &sum : sums) sum = 0;
      for (int64_t k = 0; k < K; k++) {
        const float scale = a.data[m * a.rowStep + k * a.columnStep];
        const E *row = b.data + k * b.rowStep;
        for (int64_t n = 0; n < N; n++) sums[n] += scale * float(row[n * b.columnStep]);
      }
      for (int64_t n = 0; n < N; n++) {
        R &out = c[m * N + n];
        out = R(alpha * sums[n] + (beta == 0 ? 0 : beta * float(out)));
      }
    }
  });
  return OK;
}

template int gemm(Operand<float>, Operand<float>, float *, int64_t, int64_t, int64_t, float, float);
template int gemm(Operand<bf16>, Operand<bf16>, bf16 *, int64_t, int64_t, int64_t, float, float);
template int gemm(Operand<bf16>, Operand<bf16>, float *, int64_t, int64_t, int64_t, float, float);
