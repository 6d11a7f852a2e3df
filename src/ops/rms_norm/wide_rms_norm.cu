// wide_rms_norm, CUDA. Contract: wide_rms_norm.ts in this folder. LANES threads hold a row of WIDTH in registers, EACH
// elements at a time, so that it is read once.
#include "kernel.cuh"

namespace {

constexpr int PIECES = (WIDTH / EACH + LANES - 1) / LANES;

DEVICE int lane() { return threadIdx.x % LANES; }
DEVICE int group() { return threadIdx.x / LANES; }

/** Sum over the threads of a row's group. */
DEVICE float acrossRow(float v) {
  v = acrossLanes<Sum>(v);
  if constexpr (LANES > WARP) {
    constexpr int WARPS = LANES / WARP;
    __shared__ float partial[THREADS / WARP];
    if (threadIdx.x % WARP == 0) partial[threadIdx.x / WARP] = v;
    asm volatile("bar.sync %0, %1;" ::"r"(group() + 1), "n"(LANES) : "memory");
    v = 0;
#pragma unroll
    for (int w = 0; w < WARPS; w++) v += partial[group() * WARPS + w];
  }
  return v;
}

/** body(p, d) for this thread's pieces of a row. */
template <class Body> DEVICE void forPieces(const Body &body) {
#pragma unroll
  for (int p = 0; p < PIECES; p++) {
    const int d = (lane() + p * LANES) * EACH;
    if (WIDTH % (LANES * EACH) == 0 || d < WIDTH) body(p, d);
  }
}

}  // namespace

extern "C" __global__ void __launch_bounds__(THREADS)
wide_rms_norm(const float *x, const T *weight, T *y, i64 N, float eps) {
  const i64 n = i64(blockIdx.x) * (THREADS / LANES) + group();
  if (n >= N) return;
  float row[PIECES][EACH], square = 0;
  forPieces([&](int p, int d) {
    load(x + n * WIDTH + d, row[p]);
    for (float v : row[p]) square += v * v;
  });
  const float r = rsqrtf(acrossRow(square) / WIDTH + eps);
  forPieces([&](int p, int d) {
    float scale[EACH];
    load(weight + d, scale);
    for (int k = 0; k < EACH; k++) scale[k] *= row[p][k] * r;
    store(y + n * WIDTH + d, scale);
  });
}
