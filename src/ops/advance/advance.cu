// advance, CUDA: one thread per row. Contract: advance.ts in this folder.
#include "kernel.cuh"

KERNEL advance(const int *chosen, const int *eos, int *token, int *ended, int *position, int *history, i64 R, i64 E,
               i64 C, int pad) {
  const i64 r = i64(blockIdx.x) * blockDim.x + threadIdx.x;
  if (r >= R || position[r] >= C) return;
  const int id = ended[r] ? pad : chosen[r];
  history[r * C + position[r]++] = id;
  token[r] = id;
  for (i64 e = 0; e < E; e++)
    if (id == eos[e]) ended[r] = 1;
}
