// rope, CPU. Contract, formulas and source: rope.ts in this folder.
#include <vector>
#include "kernel.h"

KERNEL(rope)(const T *x, const int32_t *positions, T *y, int64_t B, int64_t S, int64_t H, int64_t D, int32_t rotated,
             int32_t interleaved, int32_t offset, float base, float turn, float power) {
  const int64_t half = rotated / 2, step = interleaved ? 2 : 1, apart = interleaved ? 1 : half;
  parallelFor(S, 4, [=](int64_t begin, int64_t end) {
    std::vector<float> cosine(half), sine(half);
    for (int64_t s = begin; s < end; s++) {
      const double t = positions ? positions[s] : double(offset) + s;
      for (int64_t i = 0; i < half; i++) {
        const double angle = turn * t * pow(double(base), -2. * i / rotated);
        const double scale = power == 0 ? 1 : pow((2. * i + 0.4 * rotated) / (1.4 * rotated), power * t);
        cosine[i] = float(scale * cos(angle));
        sine[i] = float(scale * sin(angle));
      }
      for (int64_t b = 0; b < B; b++)
        for (int64_t h = 0; h < H; h++) {
          const int64_t head = ((b * S + s) * H + h) * D;
          const T *from = x + head;
          T *to = y + head;
          for (int64_t i = 0; i < half; i++) {
            const float first = float(from[i * step]), second = float(from[i * step + apart]);
            to[i * step] = T(first * cosine[i] - second * sine[i]);
            to[i * step + apart] = T(first * sine[i] + second * cosine[i]);
          }
          for (int64_t d = 2 * half; d < D; d++) to[d] = from[d];
        }
    }
  });
  return OK;
}
