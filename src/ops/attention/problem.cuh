// What every CUDA kernel of attention takes, and what one score is. Contract and formulas: attention.ts.
#pragma once
#include "kernel.cuh"

/** The arguments of the contract that forward and backward share, in the order of `shared` in attention.cuda.ts. */
#define PROBLEM_PARAMETERS                                                                                             \
  const T *q, const T *k, const T *v, const float *bias, const float *dense, const int *querySegments,                 \
      const int *keySegments, const int *queryPositions, const int *keyPositions, const int *rng, i64 B, i64 M, i64 H, \
      i64 D, i64 N, i64 P, i64 E, i64 G, float scale, int causal, int queryOffset, float dropout, int site
#define PROBLEM                                                                                                       \
  {                                                                                                                   \
    q, k, v, bias, dense, querySegments, keySegments, queryPositions, keyPositions, rng, B, M, H, D, N, P, E, G, scale, \
        causal, queryOffset, dropout, site                                                                            \
  }

/** How many parts rows of q and dq, and of k, v, dk and dv have: attention_packed.ts. */
#ifndef QUERY_PARTS
#define QUERY_PARTS 1
#define KEY_PARTS 1
#endif

/** Scores are kept times log2(e): 2^x is one instruction. */
constexpr float LOG2E = 1.4426950408889634f, LN2 = 0.6931471805599453f;

struct Problem {
  const T *q, *k, *v;
  const float *bias, *dense;
  const int *querySegments, *keySegments, *queryPositions, *keyPositions, *rng;
  i64 B, M, H, D, N, P, E, G;
  float scale;
  int causal, queryOffset;
  float dropout;
  int site;

  /** Index of out[b,m,h,0], q[b,m,h,0] and k[b,n,h,0]; how far apart their rows are. */
  DEVICE i64 row(i64 b, i64 h, i64 m) const { return ((b * M + m) * H + h) * D; }
  DEVICE i64 query(i64 b, i64 h, i64 m) const { return ((b * M + m) * QUERY_PARTS * H + h) * D; }
  DEVICE i64 key(i64 b, i64 h, i64 n) const { return ((b * N + n) * KEY_PARTS * H + h) * D; }
  DEVICE i64 stride() const { return H * D; }
  DEVICE i64 queryStride() const { return QUERY_PARTS * H * D; }
  DEVICE i64 keyStride() const { return KEY_PARTS * H * D; }
  DEVICE int radius() const { return int(P - 1) / 2; }
  DEVICE bool drops() const { return rng && dropout > 0; }

  /** Place of a relative position in a head's row of the bias. */
  DEVICE int biasPlace(i64 relative) const {
    const i64 r = radius();
    return int((relative < -r ? -r : relative > r ? r : relative) + r);
  }
  DEVICE i64 relative(i64 m, i64 n) const {
    return (keyPositions ? keyPositions[n] : n) - (queryPositions ? queryPositions[m] : m + queryOffset);
  }

  DEVICE i64 densePlane(i64 b, i64 h) const { return ((E == 1 ? 0 : b) * G + (G == 1 ? 0 : h)) * M * N; }

  DEVICE bool sees(i64 b, i64 m, i64 n) const {
    if (m >= M || n >= N || (causal && n > m + queryOffset)) return false;
    if (!keySegments) return true;
    const int segment = keySegments[b * N + n];
    return segment >= 0 && (!querySegments || querySegments[b * M + m] == segment);
  }

  /** The random words of the block of four elements that (b,h,m,n) lies in. */
  DEVICE uint4 words(i64 b, i64 h, i64 m, i64 n) const {
    return philox((((b * H + h) * M + m) * N + n) >> 2, rng[1], rng[0], site);
  }
  DEVICE float kept(unsigned word) const { return word >= dropThreshold(dropout) ? 1 / (1 - dropout) : 0; }

  /** What dropout multiplies element (b,h,m,n) by. */
  DEVICE float factor(i64 b, i64 h, i64 m, i64 n) const {
    return kept(wordOf(words(b, h, m, n), (((b * H + h) * M + m) * N + n) & 3));
  }

  static DEVICE unsigned wordOf(const uint4 &words, int which) {
    return which < 2 ? (which ? words.y : words.x) : (which == 2 ? words.z : words.w);
  }
};

/** Blocks that share out the rows of the batch, one head each, where one block runs on a multiprocessor. */
DEVICE int headsInTurn(i64 B, i64 H, int multiprocessors) {
  return int(min(B, max(multiprocessors / H, i64(1))));
}

/** What the backward kernels know of a query: lse log2(e), +infinity where it sees nothing, and delta. */
using RowStatistics = float2;
/** Queries per (b,h) in the array of them, with room for whole tiles. */
DEVICE i64 paddedRows(i64 M) { return (M + 127) / 128 * 128; }
