// rms_norm, add_rms_norm, CUDA. Contracts, formulas and source: rms_norm.ts and add_rms_norm.ts.
//
// LANES threads hold a row of WIDTH in registers, EACH elements at a time, as they lie in memory: every input is read once
// and every output written once. Groups of LANES threads go through the rows with a stride and fetch the next row before
// they work on this one; the weight comes from the L1 cache.
#include "column_sum.cuh"

namespace {

constexpr int PIECES = (WIDTH / EACH + LANES - 1) / LANES;

DEVICE int lane() { return threadIdx.x % LANES; }
DEVICE int group() { return threadIdx.x / LANES; }
DEVICE i64 firstRow() { return i64(blockIdx.x) * (THREADS / LANES) + group(); }
DEVICE i64 rowStride() { return i64(gridDim.x) * (THREADS / LANES); }

/** This thread's elements of a row. */
struct Row {
  alignas(16) T values[PIECES][EACH];

  template <class Body> static DEVICE void forPieces(const Body &body) {
#pragma unroll
    for (int p = 0; p < PIECES; p++) {
      const int d = (lane() + p * LANES) * EACH;
      if (WIDTH % (LANES * EACH) == 0 || d < WIDTH) body(p, d);
    }
  }
  DEVICE void fetch(const T *row) {
    forPieces([&](int p, int d) {
      if constexpr (EACH == 1) values[p][0] = row[d];
      else *reinterpret_cast<uint4 *>(values[p]) = *reinterpret_cast<const uint4 *>(row + d);
    });
  }
  DEVICE void piece(int p, float (&v)[EACH]) const { load(values[p], v); }
};

DEVICE void waitForGroup() {
  if constexpr (LANES == THREADS) __syncthreads();
  else asm volatile("bar.sync %0, %1;" ::"r"(group() + 1), "n"(LANES) : "memory");
}

/** Sum over the threads of a row's group. */
DEVICE float acrossRow(float v) {
  v = acrossLanes<Sum>(v);
  if constexpr (LANES > WARP) {
    constexpr int WARPS = LANES / WARP;
    __shared__ float partial[THREADS / WARP];
    waitForGroup();  // the last call's readers are done
    if (threadIdx.x % WARP == 0) partial[threadIdx.x / WARP] = v;
    waitForGroup();
    v = 0;
#pragma unroll
    for (int w = 0; w < WARPS; w++) v += partial[group() * WARPS + w];
  }
  return v;
}

template <bool ADD>
DEVICE void forward(const T *x, const T *y, const T *weight, T *sum, T *normed, float *rstd, i64 N, float eps) {
  Row here, other, next, nextOther;
  const auto fetch = [&](i64 n) {
    if (n >= N) return;
    next.fetch(x + n * WIDTH);
    if constexpr (ADD) nextOther.fetch(y + n * WIDTH);
  };
  fetch(firstRow());
  for (i64 n = firstRow(); n < N; n += rowStride()) {
    here = next;
    other = nextOther;
    fetch(n + rowStride());
    float square = 0;
    Row::forPieces([&](int p, int d) {
      float v[EACH];
      here.piece(p, v);
      if constexpr (ADD) {
        float added[EACH];
        other.piece(p, added);
        for (int k = 0; k < EACH; k++) v[k] += added[k];
        store(here.values[p], v);
        here.piece(p, v);  // as rounded: what the next layer reads is what is normalised
        store(sum + n * WIDTH + d, v);
      }
      for (float value : v) square += value * value;
    });
    const float r = rsqrtf(acrossRow(square) / WIDTH + eps);
    if (lane() == 0) rstd[n] = r;
    Row::forPieces([&](int p, int d) {
      float v[EACH], scale[EACH];
      here.piece(p, v);
      load(weight + d, scale);
      for (int k = 0; k < EACH; k++) v[k] *= r * scale[k];
      store(normed + n * WIDTH + d, v);
    });
  }
}

/** dx, plus dsum where given; normed, where it is wanted, once more; the sums of this block's rows for dweight go to its row of `parts` [gridDim.x, WIDTH]. */
template <bool ADD>
DEVICE void backward(const T *dy, const T *dsum, const T *x, const T *weight, const float *rstd, T *dx, T *normed,
                     float *parts, i64 N) {
  Row here, slope, next, nextSlope;
  float total[PIECES][EACH] = {};
  const auto fetch = [&](i64 n) {
    if (n >= N) return;
    next.fetch(x + n * WIDTH);
    nextSlope.fetch(dy + n * WIDTH);
  };
  fetch(firstRow());
  for (i64 n = firstRow(); n < N; n += rowStride()) {
    const float r = rstd[n];
    Row above;
    if (ADD && dsum) above.fetch(dsum + n * WIDTH);
    here = next;
    slope = nextSlope;
    fetch(n + rowStride());
    float dot = 0;
    Row::forPieces([&](int p, int d) {
      float v[EACH], g[EACH], scale[EACH];
      here.piece(p, v);
      slope.piece(p, g);
      load(weight + d, scale);
      for (int k = 0; k < EACH; k++) {
        const float product = g[k] * v[k];
        total[p][k] += r * product;
        dot += scale[k] * product;
      }
    });
    const float along = acrossRow(dot) * r * r * r / WIDTH;
    Row::forPieces([&](int p, int d) {
      float v[EACH], g[EACH], scale[EACH];
      here.piece(p, v);
      slope.piece(p, g);
      load(weight + d, scale);
      for (int k = 0; k < EACH; k++) {
        scale[k] *= r;
        g[k] = scale[k] * g[k] - v[k] * along;
        scale[k] *= v[k];
      }
      if (normed) store(normed + n * WIDTH + d, scale);
      if (ADD && dsum) {
        above.piece(p, v);
        for (int k = 0; k < EACH; k++) g[k] += v[k];
      }
      store(dx + n * WIDTH + d, g);
    });
  }
  if constexpr (LANES == THREADS) {
    Row::forPieces([&](int p, int d) { store(parts + i64(blockIdx.x) * WIDTH + d, total[p]); });
  } else {  // a block has several rows at a time
    __shared__ float block[WIDTH];
    for (int g = 0; g < THREADS / LANES; g++) {
      if (group() == g)
        Row::forPieces([&](int p, int d) {
          for (int k = 0; k < EACH; k++) block[d + k] = total[p][k] + (g ? block[d + k] : 0);
        });
      __syncthreads();
    }
    for (int d = threadIdx.x; d < WIDTH; d += THREADS) parts[i64(blockIdx.x) * WIDTH + d] = block[d];
  }
}

}  // namespace

#define BOUNDED(blocks) extern "C" __global__ void __launch_bounds__(THREADS, blocks)

BOUNDED(FORWARD_BLOCKS)
rms_norm_forward(const T *x, const T *weight, T *y, float *rstd, i64 N, i64, float eps) {
  forward<false>(x, nullptr, weight, nullptr, y, rstd, N, eps);
}

BOUNDED(ADD_FORWARD_BLOCKS)
add_rms_norm_forward(const T *x, const T *y, const T *weight, T *normed, T *sum, float *rstd, i64 N, i64, float eps) {
  forward<true>(x, y, weight, sum, normed, rstd, N, eps);
}

BOUNDED(BACKWARD_BLOCKS)
rms_norm_backward(const T *dy, const T *x, const T *weight, const float *rstd, T *dx, T *normed, float *parts, i64 N) {
  backward<false>(dy, nullptr, x, weight, rstd, dx, normed, parts, N);
}

BOUNDED(BACKWARD_BLOCKS)
add_rms_norm_backward(const T *dnormed, const T *dsum, const T *sum, const T *weight, const float *rstd, T *dx,
                      T *normed, float *parts, i64 N) {
  backward<true>(dnormed, dsum, sum, weight, rstd, dx, normed, parts, N);
}

KERNEL rms_norm_dweight(const float *parts, float *dweight, float beta) {
  const i64 d = i64(blockIdx.x) * WARP + threadIdx.x;
  const float sum = sumColumn(parts, 0, PARTS, WIDTH);
  if (threadIdx.x < WARP && d < WIDTH) dweight[d] = beta == 0 ? sum : beta * dweight[d] + sum;
}
