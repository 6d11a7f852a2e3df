// attention_decode, CUDA. Contract: attention_decode.ts in this folder.
#include "decoding.cuh"

extern __shared__ __align__(16) float memory[];

#define DECODING_PARAMETERS                                                                                        \
  const T *q, const T *keys, const T *values, const int *position, const float *bias, const int *keySegments,      \
      const int *origins, T *out, i64 R, i64 H, i64 D, i64 B, i64 C, i64 P, float scale
#define DECODING {q, keys, values, position, bias, keySegments, origins, R, H, B, C, P, scale}

/** A block per row and head; the chunks' results stay in shared memory. */
KERNEL __launch_bounds__(WARPS * WARP, RESIDENT) attention_decode(DECODING_PARAMETERS) {
  const Decoding decoding DECODING;
  const i64 h = blockIdx.x, r = blockIdx.y;
  const int chunks = int((decoding.end(r) + CHUNK - 1) / CHUNK);
  for (int c = threadIdx.x / WARP; c < chunks; c += WARPS) decoding.chunk(r, h, c, memory + c * RESULT, [] {});
  __syncthreads();
  merge(memory, chunks, memory + chunks * RESULT, out + (r * H + h) * HEAD_WIDTH);
}

/** A warp per chunk; results [R,H,chunks,RESULT] go to memory, for few rows and heads over many keys. */
KERNEL __launch_bounds__(WARPS * WARP) attention_decode_chunks(DECODING_PARAMETERS, float *results) {
  const Decoding decoding DECODING;
  const i64 c = i64(blockIdx.x) * WARPS + threadIdx.x / WARP, h = blockIdx.y, r = blockIdx.z;
  const i64 room = (C + CHUNK - 1) / CHUNK;
  if (c * CHUNK < decoding.end(r)) decoding.chunk(r, h, c, results + ((r * H + h) * room + c) * RESULT, [] {});
}
KERNEL attention_decode_merge(DECODING_PARAMETERS, const float *results) {
  const Decoding decoding DECODING;
  const i64 h = blockIdx.x, r = blockIdx.y, room = (C + CHUNK - 1) / CHUNK;
  merge(results + (r * H + h) * room * RESULT, int((decoding.end(r) + CHUNK - 1) / CHUNK), memory,
        out + (r * H + h) * HEAD_WIDTH);
}
