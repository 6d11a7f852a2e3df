// mean_pool, CUDA. Contracts: mean_pool.ts in this folder.
#include "kernel.cuh"

namespace {

/** 1 / the number of positions that are not padding; 0 when all are. All threads of the block call it. */
DEVICE float weightOf(const int *segments, i64 S) {
  float count = 0;
  for (i64 s = threadIdx.x; s < S; s += blockDim.x) count += segments[s] >= 0;
  count = acrossBlock<Sum>(count);
  return count > 0 ? 1 / count : 0;
}

}  // namespace

// A block takes a text and 32 columns; its warps share the positions.
KERNEL mean_pool_forward(const T *x, const int *segments, T *y, i64 B, i64 S, i64 D) {
  __shared__ float parts[WARP][WARP];
  const i64 b = blockIdx.x, d = i64(blockIdx.y) * WARP + threadIdx.x % WARP;
  const int warp = threadIdx.x / WARP, lane = threadIdx.x % WARP, warps = blockDim.x / WARP;
  const float weight = weightOf(segments + b * S, S);
  float sum = 0;
  if (d < D)
    for (i64 s = warp; s < S; s += warps)
      if (segments[b * S + s] >= 0) sum += float(x[(b * S + s) * D + d]);
  parts[warp][lane] = sum;
  __syncthreads();
  if (warp > 0 || d >= D) return;
  sum = 0;
  for (int w = 0; w < warps; w++) sum += parts[w][lane];
  y[b * D + d] = T(sum * weight);
}

// A block takes 32 positions of a text.
KERNEL mean_pool_backward(const T *dy, const int *segments, T *dx, i64 B, i64 D, i64 S) {
  const i64 b = blockIdx.y, first = i64(blockIdx.x) * WARP;
  const float weight = weightOf(segments + b * S, S);
  for (i64 s = first + threadIdx.x / WARP; s < S && s < first + WARP; s += blockDim.x / WARP) {
    const float w = segments[b * S + s] < 0 ? 0 : weight;
    forRow(D, D % VECTOR == 0 && aligned(dy, dx), threadIdx.x % WARP, WARP, [=](i64 d, auto n) {
      float v[n.value];
      load(dy + b * D + d, v);
      for (float &value : v) value *= w;
      store(dx + (b * S + s) * D + d, v);
    });
  }
}
