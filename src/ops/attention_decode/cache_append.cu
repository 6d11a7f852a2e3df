// cache_append, CUDA. Contract: attention_decode.ts in this folder.
#include "kernel.cuh"

KERNEL cache_append(const T *k, const T *v, const int *position, T *keys, T *values, i64 R, i64 H, i64 D, i64 B, i64 C) {
  const i64 width = H * D, i = i64(blockIdx.x) * blockDim.x + threadIdx.x;
  if (i >= R * width) return;
  const i64 r = i / width, at = position[r];
  if (at < 0 || at >= C) return;
  const i64 to = (r * B / R * C + at) * width + i % width;
  keys[to] = k[i];
  values[to] = v[i];
}
