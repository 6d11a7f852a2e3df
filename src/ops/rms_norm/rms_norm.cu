// rms_norm, add_rms_norm, CUDA. Contracts, formulas and source: rms_norm.ts and add_rms_norm.ts.
//
// LANES threads hold a row of WIDTH in registers, EACH elements at a time: every input is read once and every output
// written once. Blocks go through the rows with a stride; the weight stays in registers.
#include "column_sum.cuh"

namespace {

constexpr int PIECES = (WIDTH / EACH + LANES - 1) / LANES;

DEVICE int lane() { return threadIdx.x % LANES; }
DEVICE i64 firstRow() { return (i64(blockIdx.x) * blockDim.x + threadIdx.x) / LANES; }
DEVICE i64 rowStride() { return i64(gridDim.x) * blockDim.x / LANES; }

/** body(piece, d) for this thread's parts of a row. */
template <class Body> DEVICE void forPieces(const Body &body) {
#pragma unroll
  for (int p = 0; p < PIECES; p++) {
    const int d = (lane() + p * LANES) * EACH;
    if (WIDTH % (LANES * EACH) == 0 || d < WIDTH) body(p, d);
  }
}

DEVICE float acrossRow(float v) {
  if constexpr (LANES == WARP) return acrossLanes<Sum>(v);
  else return acrossBlock<Sum>(v);
}

template <bool ADD>
DEVICE void forward(const T *x, const T *y, const T *weight, T *sum, T *normed, float *rstd, i64 N, float eps) {
  float w[PIECES][EACH];
  forPieces([&](int p, int d) { load(weight + d, w[p]); });
  for (i64 n = firstRow(); n < N; n += rowStride()) {
    float v[PIECES][EACH], square = 0;
    forPieces([&](int p, int d) { load(x + n * WIDTH + d, v[p]); });
    if constexpr (ADD) {
      float other[PIECES][EACH];
      forPieces([&](int p, int d) { load(y + n * WIDTH + d, other[p]); });
      forPieces([&](int p, int d) {
        for (int k = 0; k < EACH; k++) v[p][k] = float(T(v[p][k] + other[p][k]));  // as the next layer will read it
        store(sum + n * WIDTH + d, v[p]);
      });
    }
    forPieces([&](int p, int) {
      for (float value : v[p]) square += value * value;
    });
    const float r = rsqrtf(acrossRow(square) / WIDTH + eps);
    if (lane() == 0) rstd[n] = r;
    forPieces([&](int p, int d) {
      for (int k = 0; k < EACH; k++) v[p][k] *= r * w[p][k];
      store(normed + n * WIDTH + d, v[p]);
    });
  }
}

/** dx, plus dsum where given; the sums of this block's rows for dweight go to its row of `parts` [gridDim.x, WIDTH]. */
DEVICE void backward(const T *dy, const T *dsum, const T *x, const T *weight, const float *rstd, T *dx, float *parts,
                     i64 N) {
  float w[PIECES][EACH], total[PIECES][EACH] = {};
  forPieces([&](int p, int d) { load(weight + d, w[p]); });
  for (i64 n = firstRow(); n < N; n += rowStride()) {
    float v[PIECES][EACH], g[PIECES][EACH], dot = 0;
    forPieces([&](int p, int d) {
      load(x + n * WIDTH + d, v[p]);
      load(dy + n * WIDTH + d, g[p]);
    });
    const float r = rstd[n];
    forPieces([&](int p, int) {
      for (int k = 0; k < EACH; k++) {
        g[p][k] *= r;
        total[p][k] += g[p][k] * v[p][k];
        g[p][k] *= w[p][k];
        dot += g[p][k] * v[p][k];
      }
    });
    const float along = acrossRow(dot) * r * r / WIDTH;
    forPieces([&](int p, int d) {
      for (int k = 0; k < EACH; k++) g[p][k] -= v[p][k] * along;
      if (dsum) {
        load(dsum + n * WIDTH + d, v[p]);
        for (int k = 0; k < EACH; k++) g[p][k] += v[p][k];
      }
      store(dx + n * WIDTH + d, g[p]);
    });
  }
  if constexpr (LANES == WARP) {  // a block has several rows at a time
    __shared__ float block[WIDTH];
    for (int warp = 0; warp < blockDim.x / WARP; warp++) {
      if (threadIdx.x / WARP == warp)
        forPieces([&](int p, int d) {
          for (int k = 0; k < EACH; k++) block[d + k] = total[p][k] + (warp ? block[d + k] : 0);
        });
      __syncthreads();
    }
    for (int d = threadIdx.x; d < WIDTH; d += blockDim.x) parts[i64(blockIdx.x) * WIDTH + d] = block[d];
  } else {
    forPieces([&](int p, int d) { store(parts + i64(blockIdx.x) * WIDTH + d, total[p]); });
  }
}

}  // namespace

KERNEL rms_norm_forward(const T *x, const T *weight, T *y, float *rstd, i64 N, i64, float eps) {
  forward<false>(x, nullptr, weight, nullptr, y, rstd, N, eps);
}

KERNEL add_rms_norm_forward(const T *x, const T *y, const T *weight, T *normed, T *sum, float *rstd, i64 N, i64,
                            float eps) {
  forward<true>(x, y, weight, sum, normed, rstd, N, eps);
}

KERNEL rms_norm_backward(const T *dy, const T *x, const T *weight, const float *rstd, T *dx, float *parts, i64 N) {
  backward(dy, nullptr, x, weight, rstd, dx, parts, N);
}

KERNEL add_rms_norm_backward(const T *dnormed, const T *dsum, const T *sum, const T *weight, const float *rstd, T *dx,
                             float *parts, i64 N) {
  backward(dnormed, dsum, sum, weight, rstd, dx, parts, N);
}

KERNEL rms_norm_dweight(const float *parts, float *dweight) {
  const i64 d = i64(blockIdx.x) * WARP + threadIdx.x;
  const float sum = sumColumn(parts, 0, PARTS, WIDTH);
  if (threadIdx.x < WARP && d < WIDTH) dweight[d] = sum;
}
