// The forward kernels' online softmax, for scores in accumulators [16,8].
#pragma once
#include "dropout.cuh"
#include "tile.cuh"

/** A maximum may grow by this (a factor 2^8 of the shares) before what was summed is brought to the new one. */
constexpr float SLACK = 8;

/**
 * Types whose numbers go as far as float's: shares may exceed 1 by far, so that the first tile's maximum does for the others.
 * A sum beyond LARGEST_SUM says that it did not; then the maximum is looked for in every tile.
 */
template <class X> constexpr bool REACHES_FAR = false;
template <> constexpr bool REACHES_FAR<bf16> = true;
constexpr float LARGEST_SUM = 7.9228163e28f;  // 2^96

/** Of a lane's queries: the maximum that shares refer to and their sums. */
template <int TILES> struct SoftmaxState {
  float top[2 * TILES], total[2 * TILES];
};

/** Whether the first tile's maximum did not do. */
template <int TILES> DEVICE bool lostBy(const SoftmaxState<TILES> &state) {
  bool any = false;
#pragma unroll
  for (int i = 0; i < 2 * TILES; i++) any |= !(state.total[i] <= LARGEST_SUM);
  return any;
}

/** A warp's queries, 16 TILES of them from m0 on, meeting tiles of 8 COLUMNS keys; outputs are 8 WIDE wide. */
template <int TILES, int COLUMNS, int WIDE> struct Softmax {
  static constexpr int OWN = 16 * TILES, SPAN = 8 * COLUMNS;
  using Scores = float[TILES][COLUMNS][4];
  using Sums = float[TILES][WIDE][4];
  const Problem &p;
  const BiasRow &row;
  i64 b, h;
  int m0;
  SoftmaxState<TILES> state;
  float shrink[2 * TILES];
  int segment[2 * TILES];
  bool everyTile = true;  // the maximum is looked for in every tile
  bool looked;            // in the last one

  DEVICE Softmax(const Problem &p, const BiasRow &row, i64 b, i64 h, int m0) : p(p), row(row) { move(b, h, m0); }
  /** To other queries, from the start. */
  DEVICE void move(i64 toB, i64 toH, int toM0) {
    b = toB;
    h = toH;
    m0 = toM0;
    looked = true;
#pragma unroll
    for (int i = 0; i < 2 * TILES; i++) {
      const int m = m0 + 8 * i + laneRow();
      state.top[i] = -infinity();
      state.total[i] = 0;
      shrink[i] = 1;
      segment[i] = SEGMENTS == 2 && m < int(p.M) ? p.querySegments[b * p.M + m] : -1;
    }
  }

  DEVICE bool hidden(int n0) const { return CAUSAL && n0 > m0 + OWN - 1 + p.queryOffset; }

  /** The dense bias of keys n0.. on; asked for a tile ahead, since it comes from far. */
  DEVICE void readDense(Scores &dense, int n0) const {
    if (!DENSE) return;
    const bool pairs = p.N % 2 == 0;
#pragma unroll
    for (int i = 0; i < 2 * TILES; i++) {
      const int m = min(m0 + 8 * i + laneRow(), int(p.M) - 1);
      const float *from = p.dense + p.densePlane(b, h) + m * p.N;
#pragma unroll
      for (int j = 0; j < COLUMNS; j++) {
        const int n = n0 + 8 * j + laneColumn();
        float2 x = {0, 0};
        if (n + 1 < int(p.N) && pairs) x = *reinterpret_cast<const float2 *>(from + n);
        else {
          if (n < int(p.N)) x.x = from[n];
          if (n + 1 < int(p.N)) x.y = from[n + 1];
        }
        dense[i / 2][j][i % 2 * 2] = x.x;
        dense[i / 2][j][i % 2 * 2 + 1] = x.y;
      }
    }
  }

  /**
   * From products with keys n0.. on to shares as dropout scales them; sums of earlier ones must then be rescaled.
   * `dense` is what readDense gave.
   * `partly`: some of the keys may be hidden by the segments.
   */
  DEVICE void shares(Scores &s, const Scores &dense, int n0, const int *keySegments, bool partly) {
    // Scores are s factor + shift: far from the diagonal the bias is one number.
    float factor = p.scale * LOG2E, shift = 0;
    const int relative = n0 - m0 - p.queryOffset;  // of the first query and key
    const bool far = !BIAS || relative + SPAN - 1 <= -row.radius || relative - (OWN - 1) >= row.radius;
    const bool masked = partly || n0 + SPAN > int(p.N) || (CAUSAL && relative + SPAN - 1 > 0);
    if (BIAS && far) shift = relative < 0 ? row.low : row.high;
    if (!far || DENSE || masked) {
      addBias(s, row, factor, shift, relative, far);
      factor = 1;
      shift = 0;
      if (DENSE)
#pragma unroll
        for (int i = 0; i < TILES; i++)
#pragma unroll
          for (int j = 0; j < COLUMNS; j++)
#pragma unroll
            for (int x = 0; x < 4; x++) s[i][j][x] += dense[i][j][x] * LOG2E;
      if (masked) hide(s, relative, min(int(p.N) - n0, SPAN), keySegments);
    }
    float offset[2 * TILES];
    bool none = everyTile;  // some query has met no key so far
    if (!everyTile)
#pragma unroll
      for (int i = 0; i < 2 * TILES; i++) none |= state.top[i] == -infinity();
    looked = everyTile || __any_sync(ALL_LANES, none);
    if (!looked)
#pragma unroll
      for (int i = 0; i < 2 * TILES; i++) {
        shrink[i] = 1;
        offset[i] = shift - state.top[i];
      }
    else
#pragma unroll
    for (int i = 0; i < 2 * TILES; i++) {
      float most = s[i / 2][0][i % 2 * 2];
#pragma unroll
      for (int j = 0; j < COLUMNS; j++) most = fmaxf(most, fmaxf(s[i / 2][j][i % 2 * 2], s[i / 2][j][i % 2 * 2 + 1]));
      most = acrossLanes<Largest, 4>(most) * factor + shift;
      float &top = state.top[i];
      const float next = most > top + SLACK || top == -infinity() ? most : top;
      const float from = next == -infinity() ? 0 : next;
      shrink[i] = exponential2(top - from);
      offset[i] = shift - from;
      top = next;
    }
#pragma unroll
    for (int i = 0; i < 2 * TILES; i++) {
      float sum[2] = {};
#pragma unroll
      for (int j = 0; j < COLUMNS; j++)
#pragma unroll
        for (int e = 0; e < 2; e++) {
          float &x = s[i / 2][j][i % 2 * 2 + e];
          x = exponential2(x * factor + offset[i]);
          sum[e] += x;
        }
      state.total[i] = state.total[i] * shrink[i] + (sum[0] + sum[1]);
      if (DROPOUT)
#pragma unroll
        for (int j = 0; j < COLUMNS; j += 2) {
          float kept[2][2];
          rowFactors(p, b, h, m0 + 8 * i + laneRow(), n0 + 8 * j + laneColumn(), kept);
#pragma unroll
          for (int x = 0; x < 4; x++) s[i / 2][j + x / 2][i % 2 * 2 + x % 2] *= kept[x / 2][x % 2];
        }
    }
  }

  /** Brings sums to the maximum that the last shares refer to; SELDOM: asks first whether that has changed. */
  template <bool SELDOM> DEVICE void rescale(Sums &sums) const {
    if (!looked) return;
    bool any = !SELDOM;
#pragma unroll
    for (int i = 0; i < 2 * TILES; i++) any |= shrink[i] != 1;
    if (!SELDOM || __any_sync(ALL_LANES, any)) multiplyRows(sums, shrink);
  }

  DEVICE bool lost() const { return lostBy(state); }

  /** Divides the sums by the totals and writes lse. */
  DEVICE void divide(Sums &sums, float *lse) const { divide(sums, state, lse + (b * p.H + h) * p.M, m0); }
  /** The same for queries whose state was kept: lse of their head, the first of them. */
  DEVICE void divide(Sums &sums, const SoftmaxState<TILES> &kept, float *lse, int first) const {
    float share[2 * TILES];
#pragma unroll
    for (int i = 0; i < 2 * TILES; i++) {
      const float all = acrossLanes<Sum, 4>(kept.total[i]);
      const bool any = all > 0 || all != all;
      const int m = first + 8 * i + laneRow();
      share[i] = any ? 1 / all : 0;
      if (laneColumn() == 0 && m < int(p.M)) lse[m] = any ? (kept.top[i] + log2f(all)) * LN2 : -infinity();
    }
    multiplyRows(sums, share);
  }

 private:
  static DEVICE void multiplyRows(Sums &sums, const float (&by)[2 * TILES]) {
#pragma unroll
    for (int i = 0; i < 2 * TILES; i++)
#pragma unroll
      for (int j = 0; j < WIDE; j++) {
        sums[i / 2][j][i % 2 * 2] *= by[i];
        sums[i / 2][j][i % 2 * 2 + 1] *= by[i];
      }
  }

  DEVICE void hide(Scores &s, int relative, int end, const int *keySegments) const {
#pragma unroll
    for (int j = 0; j < COLUMNS; j++)
#pragma unroll
      for (int e = 0; e < 2; e++) {
        const int n = 8 * j + laneColumn() + e, other = SEGMENTS ? keySegments[n] : 0;
#pragma unroll
        for (int i = 0; i < 2 * TILES; i++) {
          bool sees = n < end;
          if (CAUSAL) sees = sees && relative + n <= 8 * i + laneRow();
          if (SEGMENTS) sees = sees && other >= 0;
          if (SEGMENTS == 2) sees = sees && other == segment[i];
          if (!sees) s[i / 2][j][i % 2 * 2 + e] = -infinity();
        }
      }
  }
};
