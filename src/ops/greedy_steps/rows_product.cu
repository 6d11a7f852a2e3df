// greedy_steps for many rows: a matrix times all rows on tensor cores. Contract: greedy_steps.ts in this folder.
//
// A block makes 16 outputs of each of MATRICES matrices for 8 TILES rows; its warps have shares of the inputs and their sums are
// added up in order. Lane l holds eight neighbouring inputs of one output or row as one 16-byte word: products do not care
// in which order inputs come, so two of them take half a word each and nothing has to be shuffled.
// INPUTS; OUTPUTS of one matrix; MATRICES 1 or 2; TILES; WARPS; PLACE of the first matrix; NORM: its norm's place, or -1;
// GATED, ACTIVATION.
#include "activation/functions.cuh"
#include "ahead.cuh"
#include "attention/mma.cuh"
#include "choice.cuh"

namespace {

constexpr int BLOCK = 32;  // inputs that four lanes hold
constexpr int BLOCKS = INPUTS / BLOCK, STEPS = (BLOCKS + WARPS - 1) / WARPS;
constexpr int AHEAD = STEPS < 8 / MATRICES ? STEPS : 8 / MATRICES;  // steps whose weights are on the way
constexpr int OUT = 16, ROWS = 8 * TILES, PITCH = ROWS + 2;
static_assert(INPUTS % BLOCK == 0, "whole blocks");

/** Eight values times eight weights; their squares are added to `square`. */
DEVICE uint4 weighted(const uint4 &values, const uint4 &weights, float &square) {
  const T *type = nullptr;
  const unsigned v[4] = {values.x, values.y, values.z, values.w}, w[4] = {weights.x, weights.y, weights.z, weights.w};
  unsigned result[4];
#pragma unroll
  for (int i = 0; i < 4; i++) {
    float a[2], b[2];
    unpack(v[i], a, type);
    unpack(w[i], b, type);
    square += a[0] * a[0];
    square += a[1] * a[1];
    result[i] = pair(a[0] * b[0], a[1] * b[1]);
  }
  return make_uint4(result[0], result[1], result[2], result[3]);
}

struct Sums {
  float partial[WARPS][MATRICES * OUT][PITCH];
  float squares[WARPS][ROWS];
};

/** Products of rows from `row` on with outputs [0, OUT) of each matrix, which `weightsOf(m, output)` gives: warps' parts in `sums`. */
template <class WeightsOf>
DEVICE void multiplyRows(Sums &sums, const WeightsOf &weightsOf, const T *x, const T *norm, int row, int R) {
  const int warp = threadIdx.x / WARP, lane = threadIdx.x % WARP, g = lane / 4, t = lane % 4;
  uint4 weights[AHEAD][MATRICES][2], scale[AHEAD];
  const auto fetch = [&](int step) {
    const int at = (warp + step * WARPS) * BLOCK + t * 8;
    if (BLOCKS % WARPS && warp + step * WARPS >= BLOCKS) return;
#pragma unroll
    for (int m = 0; m < MATRICES; m++)
#pragma unroll
      for (int half = 0; half < 2; half++)
        weights[step % AHEAD][m][half] = loadOnce(weightsOf(m, g + 8 * half) + at);
    if (norm) scale[step % AHEAD] = *reinterpret_cast<const uint4 *>(norm + at);
  };
#pragma unroll
  for (int step = 0; step < AHEAD; step++) fetch(step);
  waitForEarlier();
  float c[MATRICES][TILES][4] = {}, square[TILES] = {};
#pragma unroll
  for (int step = 0; step < STEPS; step++) {
    const int block = warp + step * WARPS;
    if (BLOCKS % WARPS && block >= BLOCKS) break;
#pragma unroll
    for (int n = 0; n < TILES; n++) {
      const int r = row + n * 8 + g;
      uint4 b = make_uint4(0, 0, 0, 0);
      if (r < R) b = *reinterpret_cast<const uint4 *>(x + i64(r) * INPUTS + block * BLOCK + t * 8);
      if (norm) b = weighted(b, scale[step % AHEAD], square[n]);
#pragma unroll
      for (int m = 0; m < MATRICES; m++) {
        const uint4 &upper = weights[step % AHEAD][m][0], &lower = weights[step % AHEAD][m][1];
        multiply(c[m][n], {upper.x, lower.x, upper.y, lower.y}, b.x, b.y, static_cast<const T *>(nullptr));
        multiply(c[m][n], {upper.z, lower.z, upper.w, lower.w}, b.z, b.w, static_cast<const T *>(nullptr));
      }
    }
    if (step + AHEAD < STEPS) fetch(step + AHEAD);
  }
#pragma unroll
  for (int n = 0; n < TILES; n++) {
#pragma unroll
    for (int m = 0; m < MATRICES; m++)
#pragma unroll
      for (int half = 0; half < 2; half++) {
        float *at = &sums.partial[warp][m * OUT + g + 8 * half][n * 8 + 2 * t];
        at[0] = c[m][n][2 * half];
        at[1] = c[m][n][2 * half + 1];
      }
    if (norm) {
      const float whole = acrossLanes<Sum, 4>(square[n]);
      if (t == 0) sums.squares[warp][n * 8 + g] = whole;
    }
  }
  __syncthreads();
}

DEVICE float total(const Sums &sums, int output, int row) {
  float sum = 0;
#pragma unroll
  for (int w = 0; w < WARPS; w++) sum += sums.partial[w][output][row];
  return sum;
}
DEVICE float factor(const Sums &sums, int row, float eps) {
  float square = 0;
#pragma unroll
  for (int w = 0; w < WARPS; w++) square += sums.squares[w][row];
  return rsqrtf(square / INPUTS + eps);
}

/** body(output, row, row of the block) for this thread's results; neighbouring threads have neighbouring outputs. */
template <class Body> DEVICE void forResults(int row, int R, const Body &body) {
  for (int i = threadIdx.x; i < OUT * ROWS; i += WARPS * WARP)
    if (row + i / OUT < R) body(i % OUT, row + i / OUT, i / OUT);
}

DEVICE const T *parameter(const T *parameters, const int *places, int place) { return parameters + i64(places[place]) * 64; }

}  // namespace

#define LAUNCHED extern "C" __global__ void __launch_bounds__(WARPS * WARP)

#if MATRICES == 1
/** Normalised rows times queries', keys' and values' matrices; keys and values join the cache. */
LAUNCHED rows_qkv(const T *x, const T *parameters, const int *places, const int *position, T *query, T *keys, T *values,
                  i64 R, i64 C, float eps) {
  __shared__ Sums sums;
  letNextBegin();
  const int row = blockIdx.y * ROWS, which = blockIdx.x * OUT / OUTPUTS, first = blockIdx.x * OUT % OUTPUTS;
  const T *const matrix = parameter(parameters, places, PLACE + which) + i64(first) * INPUTS;
  multiplyRows(sums, [=](int, int o) { return matrix + o * INPUTS; }, x, parameter(parameters, places, NORM), row, int(R));
  forResults(row, int(R), [&](int o, int r, int at) {
    const T y = T(total(sums, o, at) * factor(sums, at, eps));
    if (which == 0) query[i64(r) * OUTPUTS + first + o] = y;
    else if (position[r] < C) (which == 1 ? keys : values)[(r * C + position[r]) * OUTPUTS + first + o] = y;
  });
}

/** Normalised rows times a matrix. */
LAUNCHED rows_query(const T *x, const T *parameters, const int *places, T *query, i64 R, float eps) {
  __shared__ Sums sums;
  letNextBegin();
  const int row = blockIdx.y * ROWS, first = blockIdx.x * OUT;
  const T *const matrix = parameter(parameters, places, PLACE) + i64(first) * INPUTS;
  multiplyRows(sums, [=](int, int o) { return matrix + o * INPUTS; }, x, parameter(parameters, places, NORM), row, int(R));
  forResults(row, int(R), [&](int o, int r, int at) {
    query[i64(r) * OUTPUTS + first + o] = T(total(sums, o, at) * factor(sums, at, eps));
  });
}

/** Rows times a matrix, added to the residual stream x. */
LAUNCHED rows_add(const T *input, const T *parameters, const int *places, T *x, i64 R) {
  __shared__ Sums sums;
  letNextBegin();
  const int row = blockIdx.y * ROWS, first = blockIdx.x * OUT;
  const T *const matrix = parameter(parameters, places, PLACE) + i64(first) * INPUTS;
  multiplyRows(sums, [=](int, int o) { return matrix + o * INPUTS; }, input, nullptr, row, int(R));
  forResults(row, int(R), [&](int o, int r, int at) {
    T &to = x[i64(r) * OUTPUTS + first + o];
    to = T(float(to) + total(sums, o, at));
  });
}
#endif

#if MATRICES == 1 + GATED
/** Normalised rows times the feed-forward layer's one or two matrices, through its activation. */
LAUNCHED rows_up(const T *x, const T *parameters, const int *places, T *hidden, i64 R, float eps) {
  __shared__ Sums sums;
  letNextBegin();
  const int row = blockIdx.y * ROWS, first = blockIdx.x * OUT;
  const T *const upper = parameter(parameters, places, PLACE) + i64(first) * INPUTS;
  const T *const lower = parameter(parameters, places, PLACE + MATRICES - 1) + i64(first) * INPUTS;
  multiplyRows(sums, [=](int m, int o) { return (m ? lower : upper) + o * INPUTS; }, x, parameter(parameters, places, NORM), row, int(R));
  forResults(row, int(R), [&](int o, int r, int at) {
    const float scale = factor(sums, at, eps), v = total(sums, o, at) * scale;
    with(ACTIVATION, [&](auto f) {
      hidden[i64(r) * OUTPUTS + first + o] = T(f.value(v) * (GATED ? total(sums, (MATRICES - 1) * OUT + o, at) * scale : 1));
    });
  });
}
#endif

#if MATRICES == 1
/** The best of this block's tokens for every row, [R, blocks]: 16 at a time, the rows stay in registers. */
LAUNCHED rows_logits(const T *x, const T *head, const T *norm, Key *best, i64 R, i64 V, float alpha, float eps) {
  constexpr bool KEPT = STEPS * TILES <= 16;
  constexpr int RESULTS = (OUT * ROWS + WARPS * WARP - 1) / (WARPS * WARP);
  __shared__ float partial[2][WARPS][OUT][PITCH];
  __shared__ float squares[WARPS][ROWS];
  letNextBegin();
  const int warp = threadIdx.x / WARP, lane = threadIdx.x % WARP, g = lane / 4, t = lane % 4;
  const int row = blockIdx.y * ROWS, last = int(V) - 1, all = int((V + OUT - 1) / OUT);
  uint4 weights[2][STEPS][2], rows[KEPT ? STEPS : 1][TILES];
  const auto isReal = [&](int step) { return BLOCKS % WARPS == 0 || warp + step * WARPS < BLOCKS; };
  const auto at = [&](int step) { return (warp + step * WARPS) * BLOCK + t * 8; };
  const auto fetch = [&](int tile, uint4 (&to)[STEPS][2]) {
#pragma unroll
    for (int step = 0; step < STEPS; step++)
#pragma unroll
      for (int half = 0; half < 2; half++)
        if (tile < all && isReal(step))
          to[step][half] = loadOnce(head + i64(min(tile * OUT + g + 8 * half, last)) * INPUTS + at(step));
  };
  float square[TILES] = {};
  const auto read = [&](int step, uint4 (&to)[TILES]) {
    const uint4 scale = *reinterpret_cast<const uint4 *>(norm + at(step));
#pragma unroll
    for (int n = 0; n < TILES; n++) {
      const int r = row + n * 8 + g;
      to[n] = make_uint4(0, 0, 0, 0);
      if (r < R) to[n] = weighted(*reinterpret_cast<const uint4 *>(x + i64(r) * INPUTS + at(step)), scale, square[n]);
    }
  };
  fetch(blockIdx.x, weights[0]);
  fetch(blockIdx.x + gridDim.x, weights[1]);
  waitForEarlier();
#pragma unroll
  for (int step = 0; step < STEPS; step++)
    if (isReal(step)) read(step, rows[KEPT ? step : 0]);
#pragma unroll
  for (int n = 0; n < TILES; n++) {
    const float whole = acrossLanes<Sum, 4>(square[n]);
    if (t == 0) squares[warp][n * 8 + g] = whole;
  }
  __syncthreads();
  float scale[RESULTS];
  Key most[RESULTS] = {};
#pragma unroll
  for (int k = 0; k < RESULTS; k++) {
    float sum = 0;
    for (int w = 0; w < WARPS; w++) sum += squares[w][(threadIdx.x + k * WARPS * WARP) / OUT % ROWS];
    scale[k] = rsqrtf(sum / INPUTS + eps);
  }
  const auto take = [&](int tile, uint4 (&w)[STEPS][2], float (&to)[WARPS][OUT][PITCH]) {
    float c[TILES][4] = {};
#pragma unroll
    for (int step = 0; step < STEPS; step++) {
      if (!isReal(step)) break;
      if (!KEPT) read(step, rows[0]);
#pragma unroll
      for (int n = 0; n < TILES; n++) {
        const uint4 &b = rows[KEPT ? step : 0][n], &upper = w[step][0], &lower = w[step][1];
        multiply(c[n], {upper.x, lower.x, upper.y, lower.y}, b.x, b.y, static_cast<const T *>(nullptr));
        multiply(c[n], {upper.z, lower.z, upper.w, lower.w}, b.z, b.w, static_cast<const T *>(nullptr));
      }
    }
    fetch(tile + 2 * gridDim.x, w);
#pragma unroll
    for (int n = 0; n < TILES; n++)
#pragma unroll
      for (int i = 0; i < 4; i++) to[warp][g + i / 2 * 8][n * 8 + 2 * t + i % 2] = c[n][i];
    __syncthreads();  // whoever writes here next has passed the other buffer's
#pragma unroll
    for (int k = 0; k < RESULTS; k++) {
      const int i = threadIdx.x + k * WARPS * WARP, token = tile * OUT + i % OUT;
      if (i >= OUT * ROWS || token > last) continue;
      float sum = 0;
#pragma unroll
      for (int v = 0; v < WARPS; v++) sum += to[v][i % OUT][i / OUT];
      most[k] = LargestKey::of(most[k], keyOf(float(T(alpha * (sum * scale[k]))), token));
    }
  };
  for (int tile = blockIdx.x; tile < all; tile += 2 * gridDim.x) {
    take(tile, weights[0], partial[0]);
    if (tile + int(gridDim.x) < all) take(tile + gridDim.x, weights[1], partial[1]);
  }
#pragma unroll
  for (int k = 0; k < RESULTS; k++) {
    const int i = threadIdx.x + k * WARPS * WARP, r = row + i / OUT;
    const Key key = acrossLanes<LargestKey, OUT>(most[k]);
    if (i % OUT == 0 && i < OUT * ROWS && r < R) best[i64(r) * gridDim.x + blockIdx.x] = key;
  }
}
#endif
