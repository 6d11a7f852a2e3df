// global_norm, parameter_norms, CUDA. Contracts and formulas: global_norm.ts in this folder. A block per chunk, then one
// for all chunks, or a warp per parameter.
#include "chunks.cuh"

KERNEL global_norm_partial(const T *x, float *partial, i64 N) {
  const i64 begin = i64(blockIdx.x) * CHUNK;
  const float sum = sumSquares(x + begin, begin + CHUNK < N ? CHUNK : N - begin);
  if (threadIdx.x == 0) partial[blockIdx.x] = sum;
}

KERNEL global_norm_total(const float *partial, float *norm, i64 K) {
  double sum = 0;
  for (i64 k = threadIdx.x; k < K; k += blockDim.x) sum += partial[k];
  sum = acrossBlock<Sum>(sum);
  if (threadIdx.x == 0) *norm = float(sqrt(sum));
}

KERNEL parameter_norms_partial(const T *x, const Chunk *chunks, float *partial) {
  const Chunk chunk = chunks[blockIdx.x];
  const float sum = sumSquares(x + i64(chunk.start) * UNIT, chunk.count);
  if (threadIdx.x == 0) partial[blockIdx.x] = sum;
}

KERNEL parameter_norms_total(const float *partial, const Chunk *chunks, float *norms, i64 C, i64 P) {
  const i64 p = (i64(blockIdx.x) * blockDim.x + threadIdx.x) / WARP;
  if (p >= P) return;
  const double sum = sumPartials(partial, chunks, C, int(p), &Chunk::parameter);
  if (threadIdx.x % WARP == 0) norms[p] = float(sqrt(sum));
}
