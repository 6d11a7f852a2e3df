// attention_decode, CUDA. Contract: attention_decode.ts in this folder. A warp takes CHUNK keys of one row and head, as
// if there were no others; the chunks are put together in their order, so that nothing depends on who had which.
#include "kernel.cuh"

// HEAD_WIDTH: D. WARPS: of a block.
constexpr int CHUNK = 32, PARTS = (HEAD_WIDTH + 255) / 256;
constexpr int lanesFor(int width) { return width <= RUN ? 1 : 2 * lanesFor((width + 1) / 2); }
constexpr int LANES = HEAD_WIDTH > 128 ? 32 : lanesFor(HEAD_WIDTH), TOGETHER = WARP / LANES;  // keys at once
constexpr int RESULT = HEAD_WIDTH + 2;  // floats of a chunk's result: sums, maximum, total
constexpr float LOG2E = 1.4426950408889634f;
extern __shared__ __align__(16) float memory[];

/** This lane's values of a row of D: parts of RUN, zeros beyond the end. */
DEVICE void read(const T *row, float (&x)[PARTS][RUN]) {
#pragma unroll
  for (int part = 0; part < PARTS; part++) {
    const int d = (part * LANES + threadIdx.x % LANES) * RUN;
#pragma unroll
    for (int i = 0; i < RUN; i++) x[part][i] = 0;
    if (HEAD_WIDTH % RUN == 0) {
      if (d < HEAD_WIDTH) load(row + d, x[part]);
    } else {
#pragma unroll
      for (int i = 0; i < RUN; i++)
        if (d + i < HEAD_WIDTH) x[part][i] = float(row[d + i]);
    }
  }
}

struct Decoding {
  const T *q, *keys, *values;
  const int *position;
  const float *bias;
  const int *keySegments, *origins;
  i64 R, H, B, C, P;
  float scale;

  /** Keys that the row may see: [0, end). */
  DEVICE i64 end(i64 r) const { return position ? max(i64(0), min(C, i64(position[r]) + 1)) : C; }

  DEVICE void chunk(i64 r, i64 h, i64 c, float *result) const {
    const int lane = threadIdx.x % WARP, turn = lane / LANES;
    const i64 first = c * CHUNK, last = end(r);
    const int R_ = int(P - 1) / 2;
    float query[PARTS][RUN], s[LANES], top = -infinity();
    read(q + (r * H + h) * HEAD_WIDTH, query);
    i64 rows[LANES];
#pragma unroll
    for (int t = 0; t < LANES; t++) {
      const i64 n = first + t * TOGETHER + turn;
      const bool inside = n < last;
      const i64 origin = origins && inside ? origins[r * C + n] : r * B / R;
      const bool sees = inside && (!keySegments || keySegments[origin * C + n] >= 0);
      rows[t] = sees ? ((origin * C + n) * H + h) * HEAD_WIDTH : -1;
    }
#pragma unroll
    for (int t = 0; t < LANES; t++) {
      float key[PARTS][RUN] = {}, dot = 0;
      if (rows[t] >= 0) read(keys + rows[t], key);
#pragma unroll
      for (int part = 0; part < PARTS; part++)
#pragma unroll
        for (int i = 0; i < RUN; i++) dot += query[part][i] * key[part][i];
      dot = acrossLanes<Sum, LANES>(dot) * scale;
      const i64 n = first + t * TOGETHER + turn, relative = n - (position ? position[r] : 0);
      if (bias && rows[t] >= 0)
        dot += bias[h * P + (relative < -R_ ? -R_ : relative > R_ ? R_ : relative) + R_];
      s[t] = rows[t] >= 0 ? dot * LOG2E : -infinity();
      top = fmaxf(top, s[t]);
    }
#pragma unroll
    for (int apart = LANES; apart < WARP; apart *= 2) top = fmaxf(top, __shfl_xor_sync(ALL_LANES, top, apart));
    const float from = top == -infinity() ? 0 : top;
    float total = 0, sums[PARTS][RUN] = {};
#pragma unroll
    for (int t = 0; t < LANES; t++) {
      if (rows[t] < 0) continue;
      float value[PARTS][RUN];
      read(values + rows[t], value);
      const float share = exponential2(s[t] - from);
      total += share;
#pragma unroll
      for (int part = 0; part < PARTS; part++)
#pragma unroll
        for (int i = 0; i < RUN; i++) sums[part][i] += share * value[part][i];
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

/** Puts the results of chunks together; the whole block calls it. */
DEVICE void merge(const float *results, i64 chunks, T *out) {
  float top = -infinity();
  for (i64 c = 0; c < chunks; c++) top = fmaxf(top, results[c * RESULT + HEAD_WIDTH]);
  const float from = top == -infinity() ? 0 : top;
  for (int d = threadIdx.x; d < HEAD_WIDTH; d += blockDim.x) {
    float sum = 0, total = 0;
    for (i64 c = 0; c < chunks; c++) {
      const float *result = results + c * RESULT;
      const float weight = exponential2(result[HEAD_WIDTH] - from);
      sum += weight * result[d];
      total += weight * result[HEAD_WIDTH + 1];
    }
    out[d] = T(total > 0 || total != total ? sum / total : 0);
  }
}

#define DECODING_PARAMETERS                                                                                        \
  const T *q, const T *keys, const T *values, const int *position, const float *bias, const int *keySegments,      \
      const int *origins, T *out, i64 R, i64 H, i64 D, i64 B, i64 C, i64 P, float scale
#define DECODING {q, keys, values, position, bias, keySegments, origins, R, H, B, C, P, scale}

/** A block per row and head; the chunks' results stay in shared memory. */
KERNEL __launch_bounds__(WARPS * WARP) attention_decode(DECODING_PARAMETERS) {
  const Decoding decoding DECODING;
  const i64 h = blockIdx.x, r = blockIdx.y, chunks = (decoding.end(r) + CHUNK - 1) / CHUNK;
  for (i64 c = threadIdx.x / WARP; c < chunks; c += WARPS) decoding.chunk(r, h, c, memory + c * RESULT);
  __syncthreads();
  merge(memory, chunks, out + (r * H + h) * HEAD_WIDTH);
}

/** A warp per chunk; results [R,H,chunks,RESULT] go to memory, for few rows and heads over many keys. */
KERNEL __launch_bounds__(WARPS * WARP) attention_decode_chunks(DECODING_PARAMETERS, float *results) {
  const Decoding decoding DECODING;
  const i64 c = i64(blockIdx.x) * WARPS + threadIdx.x / WARP, h = blockIdx.y, r = blockIdx.z;
  const i64 room = (C + CHUNK - 1) / CHUNK;
  if (c * CHUNK < decoding.end(r)) decoding.chunk(r, h, c, results + ((r * H + h) * room + c) * RESULT);
}
KERNEL attention_decode_merge(DECODING_PARAMETERS, const float *results) {
  const Decoding decoding DECODING;
  const i64 h = blockIdx.x, r = blockIdx.y, room = (C + CHUNK - 1) / CHUNK;
  merge(results + (r * H + h) * room * RESULT, (decoding.end(r) + CHUNK - 1) / CHUNK, out + (r * H + h) * HEAD_WIDTH);
}
