// attention, CUDA: what surrounds the backward kernels. Contract: attention.ts.
#include "problem.cuh"

/**
 * What the backward kernels know of each query, [B,H,paddedRows]: ROW_LANES threads per query. Those beyond M have no part in
 * anything.
 */
KERNEL attention_rows(const T *dout, const T *out, const float *lse, i64 B, i64 M, i64 H, i64 D, RowStatistics *rows) {
  const int lane = threadIdx.x % ROW_LANES;
  const i64 padded = paddedRows(M), row = i64(blockIdx.x) * (blockDim.x / ROW_LANES) + threadIdx.x / ROW_LANES;
  // Heads vary fastest: neighbouring threads read neighbouring memory.
  const i64 b = row / (padded * H), m = row / H % padded, h = row % H;
  float delta = 0;
  if (b < B && m < M)
    forRow(D, D % RUN == 0 && aligned(dout, out), lane, ROW_LANES, [&](i64 d, auto n) {
      const i64 at = ((b * M + m) * H + h) * D + d;
      float x[n.value], y[n.value];
      load(dout + at, x);
      load(out + at, y);
#pragma unroll
      for (int i = 0; i < n.value; i++) delta += x[i] * y[i];
    });
  delta = acrossLanes<Sum, ROW_LANES>(delta);
  if (lane || b >= B) return;
  const float l = m < M ? lse[(b * H + h) * M + m] : -infinity();
  rows[(b * H + h) * padded + m] = make_float2(l == -infinity() ? infinity() : l * LOG2E, delta);
}

/** dbias [H,P] from partial [B,H,blocks,P]: 8 warps take turns over the parts, then their sums are added in order. */
#ifdef KEYS
KERNEL attention_bias_sums(const float *partial, float *dbias, i64 B, i64 H, i64 N, i64 P) {
  const i64 parts = (N + KEYS - 1) / KEYS;
  __shared__ float sums[8][WARP];
  const int lane = threadIdx.x % WARP, warp = threadIdx.x / WARP;
  const i64 h = blockIdx.y, place = i64(blockIdx.x) * WARP + lane;
  float sum = 0;
  if (place < P)
    for (i64 i = warp; i < B * parts; i += 8) sum += partial[((i / parts * H + h) * parts + i % parts) * P + place];
  sums[warp][lane] = sum;
  __syncthreads();
  if (warp || place >= P) return;
  for (int i = 1; i < 8; i++) sum += sums[i][lane];
  dbias[h * P + place] = sum;
}
#endif
