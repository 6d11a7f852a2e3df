// attention, CUDA: what surrounds the backward kernels. Contract: attention.ts.
#include "problem.cuh"

#ifdef ROW_LANES
/**
 * What the backward kernels know of each query, [B,H,paddedRows]: ROW_LANES threads per query, blockIdx.y is the row of
 * the batch. Queries beyond M have no part in anything.
 */
KERNEL attention_rows(const T *dout, const T *out, const float *lse, i64 B, i64 M, i64 H, i64 D, RowStatistics *rows) {
  const int lane = threadIdx.x % ROW_LANES;
  const unsigned padded = unsigned(paddedRows(M)), heads = unsigned(H);
  // Heads vary fastest: neighbouring threads read neighbouring memory.
  const unsigned row = (blockIdx.x * blockDim.x + threadIdx.x) / ROW_LANES, m = row / heads, h = row % heads;
  const i64 b = blockIdx.y;
  float delta = 0;
  if (m < M)
    forRow(D, D % RUN == 0 && aligned(dout, out), lane, ROW_LANES, [&](i64 d, auto n) {
      const i64 at = (b * M * H + row) * D + d;
      float x[n.value], y[n.value];
      load(dout + at, x);
      load(out + at, y);
#pragma unroll
      for (int i = 0; i < n.value; i++) delta += x[i] * y[i];
    });
  delta = acrossLanes<Sum, ROW_LANES>(delta);
  if (lane || m >= padded) return;
  const float l = m < M ? lse[(b * H + h) * M + m] : -infinity();
  rows[(b * H + h) * padded + m] = make_float2(l == -infinity() ? infinity() : l * LOG2E, delta);
}
#endif

#ifdef KEYS
/**
 * dbias [H,P] from partial [batches,H,parts,P]: a block's warps take turns over the parts, then their sums are added in order.
 * KEYS: of a part; 0 where a part is of a head of several rows of the batch.
 */
KERNEL attention_bias_sums(const float *partial, float *dbias, i64 B, i64 H, i64 N, i64 P) {
  constexpr int WARPS = 32, AT_ONCE = 8;
  __shared__ float sums[WARPS][WARP];
  const int lane = threadIdx.x % WARP, warp = threadIdx.x / WARP;
  const int parts = KEYS ? int((N + KEYS - 1) / max(KEYS, 1)) : 1, batches = KEYS ? int(B) : headsInTurn(B, H, MULTIPROCESSORS);
  const i64 h = blockIdx.y, place = i64(blockIdx.x) * WARP + lane;
  float sum = 0;
  if (place < P)
#pragma unroll 1
    for (int first = warp; first < batches * parts; first += WARPS * AT_ONCE) {
      float x[AT_ONCE];
#pragma unroll
      for (int i = 0; i < AT_ONCE; i++) {
        const int at = first + i * WARPS, b = at / parts, part = at % parts;
        x[i] = b < batches ? partial[((b * H + h) * parts + part) * P + place] : 0;
      }
#pragma unroll
      for (int i = 0; i < AT_ONCE; i++) sum += x[i];
    }
  sums[warp][lane] = sum;
  __syncthreads();
  if (warp || place >= P) return;
  for (int i = 1; i < WARPS; i++) sum += sums[i][lane];
  dbias[h * P + place] = sum;
}
#endif
