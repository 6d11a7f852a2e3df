// rope, CUDA. Contract, formulas and source: rope.ts in this folder. A block takes one position of some rows of the batch
// and takes its angles, in float64, once for all of their heads.
#include "kernel.cuh"

KERNEL rope(const T *x, const int *positions, T *y, i64 B, i64 S, i64 H, i64 D, int rotated, int interleaved, int offset,
            float base, float turn, float power) {
  extern __shared__ float2 turns[];  // cosine and sine of each pair
  const int half = rotated / 2, step = interleaved ? 2 : 1, apart = interleaved ? 1 : half;
  const i64 s = blockIdx.x;
  const double t = positions ? double(positions[s]) : double(offset) + s;
  for (int i = threadIdx.x; i < half; i += blockDim.x) {
    const double angle = turn * t * pow(double(base), -2. * i / rotated);
    const double scale = power == 0 ? 1 : pow((2. * i + 0.4 * rotated) / (1.4 * rotated), power * t);
    turns[i] = make_float2(float(scale * cos(angle)), float(scale * sin(angle)));
  }
  __syncthreads();
  const int places = half + int(D) - 2 * half;  // pairs, then the values that stay
  for (i64 b = i64(blockIdx.y) * TEXTS; b < B && b < i64(blockIdx.y + 1) * TEXTS; b++) {
    const i64 token = (b * S + s) * H * D;
    for (int k = threadIdx.x; k < int(H) * places; k += blockDim.x) {
      const i64 head = token + k / places * D;
      const int i = k % places;
      if (i >= half) {
        y[head + half + i] = x[head + half + i];
        continue;
      }
      const i64 at = head + i * step;
      const float first = float(x[at]), second = float(x[at + apart]);
      y[at] = T(first * turns[i].x - second * turns[i].y);
      y[at + apart] = T(first * turns[i].y + second * turns[i].x);
    }
  }
}
