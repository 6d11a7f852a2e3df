// linear_rows, CUDA. Contract: linear_rows.ts in this folder. Bound by reading the weights once.
// ROWS: N; INPUTS: I, so that all loads of a short row are under way at once. A warp makes OUTPUTS columns of one y.
#include "kernel.cuh"

namespace {

constexpr int I = INPUTS;
/** Steps of a warp along a row, and how many of them are loaded ahead. */
constexpr int STEPS = (I + WARP * RUN - 1) / (WARP * RUN);
constexpr int AHEAD = STEPS < 8 / OUTPUTS ? STEPS : 8 / OUTPUTS;
/** 16-byte words of RUN elements. */
constexpr int WORDS = RUN * int(sizeof(T)) / 16;

}  // namespace

KERNEL linear_rows(const T *x, const T *weight, const T *second, const T *third, T *y, T *y2, T *y3, i64 O, i64 P, i64 Q,
                   float alpha) {
  const int lane = threadIdx.x % WARP;
  i64 part = i64(blockIdx.x) * (blockDim.x / WARP) + threadIdx.x / WARP;
  const auto parts = [](i64 outputs) { return (outputs + OUTPUTS - 1) / OUTPUTS; };
  if (part >= parts(O)) {
    part -= parts(O);
    const bool last = part >= parts(P);
    if (last) part -= parts(P);
    weight = last ? third : second;
    y = last ? y3 : y2;
    O = last ? Q : P;
  }
  const i64 first = part * OUTPUTS;
  if (first >= O) return;
  float sum[OUTPUTS][ROWS] = {};
  for (int step = 0; step < STEPS; step += AHEAD) {
    uint4 words[AHEAD][OUTPUTS][WORDS];
#pragma unroll
    for (int a = 0; a < AHEAD; a++) {
      const int i = ((step + a) * WARP + lane) * RUN;
#pragma unroll
      for (int j = 0; j < OUTPUTS; j++)
#pragma unroll
        for (int k = 0; k < WORDS; k++)
          words[a][j][k] = i < I ? loadOnce(reinterpret_cast<const uint4 *>(weight + min(first + j, O - 1) * I + i) + k)
                                 : make_uint4(0, 0, 0, 0);
    }
#pragma unroll
    for (int a = 0; a < AHEAD; a++) {
      const int i = ((step + a) * WARP + lane) * RUN;
      if (i >= I) break;
#pragma unroll
      for (int n = 0; n < ROWS; n++) {
        float v[RUN];
        load(x + n * I + i, v);
#pragma unroll
        for (int j = 0; j < OUTPUTS; j++) {
          float w[RUN];
          load(reinterpret_cast<const T *>(words[a][j]), w);
#pragma unroll
          for (int k = 0; k < RUN; k++) sum[j][n] += w[k] * v[k];
        }
      }
    }
  }
#pragma unroll
  for (int j = 0; j < OUTPUTS; j++)
#pragma unroll
    for (int n = 0; n < ROWS; n++) {
      const float total = acrossLanes<Sum>(sum[j][n]);
      if (lane == 0 && first + j < O) y[n * O + first + j] = T(alpha * total);
    }
}
