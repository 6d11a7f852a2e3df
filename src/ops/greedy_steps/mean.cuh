// Attention of one token, of which every lane has a part of some keys.
#pragma once
#include "shapes.cuh"

constexpr float LOG2E = 1.4426950408889634f;

DEVICE void unpackPiece(const uint4 &piece, float (&v)[PER]) {
  constexpr int EACH_WORD = 4 / int(sizeof(T));
  const T *type = nullptr;
  unpack(piece.x, v, type);
  unpack(piece.y, v + EACH_WORD, type);
  unpack(piece.z, v + 2 * EACH_WORD, type);
  unpack(piece.w, v + 3 * EACH_WORD, type);
}

/** The mean of values by the softmax of scores, of some of the keys. */
struct Mean {
  float top = -infinity(), total = 0, sums[PER] = {};

  /** Scores in powers of 2, -infinity where a key is not seen. */
  template <int N> DEVICE void add(const float (&scores)[N], const uint4 (&values)[N]) {
    float highest = top;
#pragma unroll
    for (int i = 0; i < N; i++) highest = fmaxf(highest, scores[i]);
    const float from = highest == -infinity() ? 0 : highest, keep = exponential2(top - from);
    top = highest;
    total *= keep;
#pragma unroll
    for (int k = 0; k < PER; k++) sums[k] *= keep;
#pragma unroll
    for (int i = 0; i < N; i++) {
      const float share = exponential2(scores[i] - from);
      float v[PER];
      unpackPiece(values[i], v);
      total += share;
#pragma unroll
      for (int k = 0; k < PER; k++) sums[k] += scores[i] == -infinity() ? 0 : share * v[k];
    }
  }
};
