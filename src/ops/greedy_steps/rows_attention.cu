// greedy_steps for many rows: attention of the new tokens, a block per row and head. HEAD_WIDTH; WARPS; RESIDENT.
#include "ahead.cuh"
#include "attention_decode/decoding.cuh"

extern __shared__ __align__(16) float memory[];

#define LAUNCHED extern "C" __global__ void __launch_bounds__(WARPS * WARP, RESIDENT)

namespace {

template <class Ready> DEVICE void attend(const Decoding &decoding, T *out, const Ready &ready) {
  const i64 h = blockIdx.x, r = blockIdx.y;
  const int chunks = int((decoding.end(r) + CHUNK - 1) / CHUNK);
  for (int c = threadIdx.x / WARP; c < chunks; c += WARPS) decoding.chunk(r, h, c, memory + c * RESULT, ready);
  ready();
  __syncthreads();
  merge(memory, chunks, memory + chunks * RESULT, out + (r * decoding.H + h) * HEAD_WIDTH);
}

}  // namespace

/** Attention to the tokens before. */
LAUNCHED rows_self(const T *query, const T *keys, const T *values, const int *position, const float *bias, T *out, i64 R,
                   i64 H, i64 C, i64 P, float scale) {
  letNextBegin();
  waitForEarlier();
  attend({query, keys, values, position, bias, nullptr, nullptr, R, H, R, C, P, scale}, out, [] {});
}

/** Attention to the source, which nobody writes meanwhile. */
LAUNCHED rows_cross(const T *query, const T *keys, const T *values, const int *segments, T *out, i64 R, i64 H, i64 S,
                    float scale) {
  letNextBegin();
  attend({query, keys, values, nullptr, nullptr, segments, nullptr, R, H, R, S, 0, scale}, out, [] { waitForEarlier(); });
}
