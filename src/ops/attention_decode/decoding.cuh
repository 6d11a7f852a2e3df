// One query per row over a cache of keys and values. A warp takes CHUNK keys of one row and head, as if there were no others;
// the chunks are put together in their order, so that nothing depends on who had which.
#pragma once
#include "kernel.cuh"

// HEAD_WIDTH: D. WARPS: of a block; RESIDENT: blocks that a multiprocessor should hold.
constexpr int CHUNK = 32, PARTS = (HEAD_WIDTH + 255) / 256;
constexpr int lanesFor(int width) { return width <= RUN ? 1 : 2 * lanesFor((width + 1) / 2); }
constexpr int LANES = HEAD_WIDTH > 128 ? 32 : lanesFor(HEAD_WIDTH), TOGETHER = WARP / LANES;  // keys at once
constexpr int RESULT = HEAD_WIDTH + 2;  // floats of a chunk's result: sums, maximum, total
// Whether a lane's registers hold its part of a whole chunk, so that everything can be asked for at once.
constexpr bool AT_ONCE = LANES <= 8 && sizeof(T) == 2;
constexpr float LOG2E = 1.4426950408889634f;

/** This lane's part of a row of D as it lies in memory, RUN values for each of PARTS. */
struct Part {
  static constexpr int WORDS = RUN * int(sizeof(T)) / 4;
  unsigned words[PARTS][WORDS];

  DEVICE void read(const T *row) {
#pragma unroll
    for (int part = 0; part < PARTS; part++) {
      const int d = (part * LANES + threadIdx.x % LANES) * RUN;
#pragma unroll
      for (int i = 0; i < WORDS; i++) words[part][i] = 0;
      if (HEAD_WIDTH % RUN == 0) {
        if (d < HEAD_WIDTH)
#pragma unroll
          for (int i = 0; i < WORDS; i += 4) {
            const uint4 w = *reinterpret_cast<const uint4 *>(row + d + i * 4 / int(sizeof(T)));
            words[part][i] = w.x;
            words[part][i + 1] = w.y;
            words[part][i + 2] = w.z;
            words[part][i + 3] = w.w;
          }
      } else {
#pragma unroll
        for (int i = 0; i < RUN; i++)
          if (d + i < HEAD_WIDTH) reinterpret_cast<T *>(words[part])[i] = row[d + i];
      }
    }
  }
  DEVICE void values(int part, float (&x)[RUN]) const {
#pragma unroll
    for (int i = 0; i < WORDS; i++) unpack(words[part][i], x + i * RUN / WORDS, static_cast<const T *>(nullptr));
  }
};

struct Decoding {
  const T *q, *keys, *values;
  const int *position;
  const float *bias;
  const int *keySegments, *origins;
  i64 R, H, B, C, P;
  float scale;

  /** Keys that the row may see: [0, end). */
  DEVICE i64 end(i64 r) const { return position ? max(i64(0), min(C, i64(position[r]) + 1)) : C; }

  /** `ready` returns once there are queries: keys and values are asked for before. */
  template <class Ready> DEVICE void chunk(i64 r, i64 h, i64 c, float *result, const Ready &ready) const {
    const int lane = threadIdx.x % WARP, turn = lane / LANES, radius = int(P - 1) / 2;
    const i64 first = c * CHUNK, last = end(r);
    // What can is asked for before anything is used, also of keys that turn out to be hidden.
    Part query, key[AT_ONCE ? LANES : 1], value[AT_ONCE ? LANES : 1];
    i64 rows[LANES];
    float extra[LANES];
    bool sees[LANES];
#pragma unroll
    for (int t = 0; t < LANES; t++) {
      const i64 n = min(first + t * TOGETHER + turn, C - 1), origin = origins ? origins[r * C + n] : r * B / R;
      rows[t] = ((origin * C + n) * H + h) * HEAD_WIDTH;
      if (AT_ONCE) {
        key[t].read(keys + rows[t]);
        value[t].read(values + rows[t]);
      }
      sees[t] = first + t * TOGETHER + turn < last && (!keySegments || keySegments[origin * C + n] >= 0);
      const i64 relative = n - (position ? position[r] : 0);
      extra[t] = bias ? bias[h * P + (relative < -radius ? -radius : relative > radius ? radius : relative) + radius] : 0;
    }
    ready();
    query.read(q + (r * H + h) * HEAD_WIDTH);
    float x[PARTS][RUN], s[LANES], top = -infinity();
#pragma unroll
    for (int part = 0; part < PARTS; part++) query.values(part, x[part]);
#pragma unroll
    for (int t = 0; t < LANES; t++) {
      float dot = 0;
      if (!AT_ONCE) key[0].read(keys + rows[t]);
#pragma unroll
      for (int part = 0; part < PARTS; part++) {
        float y[RUN];
        key[AT_ONCE ? t : 0].values(part, y);
#pragma unroll
        for (int i = 0; i < RUN; i++) dot += x[part][i] * y[i];
      }
      dot = acrossLanes<Sum, LANES>(dot);
      s[t] = sees[t] ? (dot * scale + extra[t]) * LOG2E : -infinity();
      top = fmaxf(top, s[t]);
    }
#pragma unroll
    for (int apart = LANES; apart < WARP; apart *= 2) top = fmaxf(top, __shfl_xor_sync(ALL_LANES, top, apart));
    const float from = top == -infinity() ? 0 : top;
    float total = 0, sums[PARTS][RUN] = {};
#pragma unroll
    for (int t = 0; t < LANES; t++) {
      const float share = exponential2(s[t] - from);
      total += share;
      if (!AT_ONCE) value[0].read(values + rows[t]);
#pragma unroll
      for (int part = 0; part < PARTS; part++) {
        float y[RUN];
        value[AT_ONCE ? t : 0].values(part, y);
#pragma unroll
        for (int i = 0; i < RUN; i++) sums[part][i] += sees[t] ? share * y[i] : 0;
      }
    }
#pragma unroll
    for (int apart = LANES; apart < WARP; apart *= 2) {
      total += __shfl_xor_sync(ALL_LANES, total, apart);
#pragma unroll
      for (int part = 0; part < PARTS; part++)
#pragma unroll
        for (int i = 0; i < RUN; i++) sums[part][i] += __shfl_xor_sync(ALL_LANES, sums[part][i], apart);
    }
    if (turn) return;
#pragma unroll
    for (int part = 0; part < PARTS; part++)
#pragma unroll
      for (int i = 0; i < RUN; i++) {
        const int d = (part * LANES + lane) * RUN + i;
        if (d < HEAD_WIDTH) result[d] = sums[part][i];
      }
    if (lane == 0) {
      result[HEAD_WIDTH] = top;
      result[HEAD_WIDTH + 1] = total;
    }
  }
};

/** Puts the results of chunks together, whose weights lie in `weights` for a while; the whole block calls it. */
DEVICE void merge(const float *results, int chunks, float *weights, T *out) {
  __shared__ float whole;
  if (threadIdx.x < WARP) {
    float top = -infinity(), total = 0;
    for (int c = threadIdx.x; c < chunks; c += WARP) top = fmaxf(top, results[c * RESULT + HEAD_WIDTH]);
    top = acrossLanes<Largest>(top);
    const float from = top == -infinity() ? 0 : top;
    for (int c = threadIdx.x; c < chunks; c += WARP) {
      const float weight = exponential2(results[c * RESULT + HEAD_WIDTH] - from);
      weights[c] = weight;
      total += weight * results[c * RESULT + HEAD_WIDTH + 1];
    }
    total = acrossLanes<Sum>(total);
    if (threadIdx.x == 0) whole = total;
  }
  __syncthreads();
  for (int d = threadIdx.x; d < HEAD_WIDTH; d += blockDim.x) {
    float sum = 0;
#pragma unroll 8
    for (int c = 0; c < chunks; c++) sum += weights[c] * results[c * RESULT + d];
    out[d] = T(whole > 0 || whole != whole ? sum / whole : 0);
  }
}
