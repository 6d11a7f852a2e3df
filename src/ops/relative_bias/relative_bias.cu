// relative_bias, CUDA. Contract, formula and source: relative_bias.ts in this folder.
#include "kernel.cuh"

namespace {

struct Buckets {
  i64 total;
  bool bidirectional;
  i64 maxDistance;

  // The logarithm is rounded from double: float libraries differ in its last bit, and buckets begin there.
  DEVICE i64 of(i64 relative) const {
    const i64 count = bidirectional ? total / 2 : total;
    const i64 base = bidirectional && relative > 0 ? count : 0;
    const i64 distance = relative > 0 ? (bidirectional ? relative : 0) : -relative;
    const i64 exact = count / 2;
    if (distance < exact) return base + distance;
    if (maxDistance <= exact) return base + count - 1;
    const float position = float(log(double(float(double(distance) / exact))));
    const float share = __fdiv_rn(position, float(log(double(maxDistance) / exact)));
    const i64 bucket = exact + i64(__fmul_rn(share, float(count - exact)));
    return base + (bucket < count - 1 ? bucket : count - 1);
  }
};

}  // namespace

KERNEL relative_bias_forward(const T *table, float *bias, i64 U, i64 H, i64 P, int bidirectional, int maxDistance) {
  const i64 i = i64(blockIdx.x) * blockDim.x + threadIdx.x;
  if (i >= P) return;
  const T *row = table + Buckets{U, bidirectional != 0, maxDistance}.of(i - P / 2) * H;
  for (i64 h = 0; h < H; h++) bias[h * P + i] = float(row[h]);
}

// A block takes a head; each of its threads collects some buckets, going through the distances in order.
KERNEL relative_bias_backward(const float *dbias, float *dtable, i64 H, i64 P, i64 U, int bidirectional,
                              int maxDistance) {
  __shared__ int bucket[THREADS];
  __shared__ float values[THREADS];
  const Buckets buckets{U, bidirectional != 0, maxDistance};
  const i64 h = blockIdx.x;
  for (i64 u0 = 0; u0 < U; u0 += THREADS) {
    float sum = 0;
    for (i64 i0 = 0; i0 < P; i0 += THREADS) {
      const i64 i = i0 + threadIdx.x;
      __syncthreads();
      bucket[threadIdx.x] = i < P ? int(buckets.of(i - P / 2)) : -1;
      values[threadIdx.x] = i < P ? dbias[h * P + i] : 0;
      __syncthreads();
      for (int k = 0; k < THREADS; k++)
        if (bucket[k] == u0 + threadIdx.x) sum += values[k];
    }
    if (u0 + threadIdx.x < U) dtable[(u0 + threadIdx.x) * H + h] = sum;
  }
}
