// The backward kernels' gradients of scores, for scores in accumulators [16,8]: with keys as rows, where dk and dv are
// summed, and with queries as rows, where dq is.
#pragma once
#include "dropout.cuh"
#include "mma.cuh"
#include "tile.cuh"

/** A warp's 16 keys from n0 on, meeting strips of 8 COLUMNS queries. */
template <int COLUMNS> struct KeyRows {
  static constexpr int OWN = 16, SPAN = 8 * COLUMNS;
  using Scores = float[COLUMNS][4];
  const Problem &p;
  const BiasRow &row;
  i64 b, h;
  int n0;
  int segment[2];

  DEVICE KeyRows(const Problem &p, const BiasRow &row, i64 b, i64 h, int n0) : p(p), row(row) { move(b, h, n0); }
  /** To other keys. */
  DEVICE void move(i64 toB, i64 toH, int toN0) {
    b = toB;
    h = toH;
    n0 = toN0;
#pragma unroll
    for (int i = 0; i < 2; i++) {
      const int n = n0 + 8 * i + laneRow();
      segment[i] = SEGMENTS && n < int(p.N) ? p.keySegments[b * p.N + n] : -1;
    }
  }

  /** Of the first key and query. */
  DEVICE int relative(int m0) const { return n0 - m0 - p.queryOffset; }
  /** Whether no query of a strip sees a key. */
  DEVICE bool hidden(int m0) const { return CAUSAL && relative(m0) > SPAN - 1; }
  DEVICE bool far(int relative) const {
    return !BIAS || relative + OWN - 1 <= -row.radius || relative - (SPAN - 1) >= row.radius;
  }

  /** The dense bias of queries m0.. on; asked for a strip ahead, since it comes from far. */
  DEVICE void readDense(Scores &dense, int m0) const {
    if (!DENSE) return;
#pragma unroll
    for (int j = 0; j < COLUMNS; j++)
#pragma unroll
      for (int x = 0; x < 4; x++) {
        const int m = m0 + 8 * j + laneColumn() + x % 2, n = n0 + 8 * (x / 2) + laneRow();
        dense[j][x] = m < int(p.M) && n < int(p.N) ? p.dense[p.densePlane(b, h) + m * p.N + n] : 0;
      }
  }

  /** From products with queries m0.. on to shares; `dense` is what readDense gave. */
  DEVICE void shares(Scores &s, const Scores &dense, int m0, const float *lse, const int *querySegments, bool partly) const {
    float factor = p.scale * LOG2E, shift = 0;
    const int at = relative(m0);
    const bool constant = far(at), masked = partly || n0 + OWN > int(p.N) || (CAUSAL && at + OWN - 1 > 0);
    if (BIAS && constant) shift = at < 0 ? row.low : row.high;
    if (!constant || DENSE || masked) {
      finish(s, factor, shift, at, constant);
      factor = 1;
      shift = 0;
      if (DENSE)
#pragma unroll
        for (int j = 0; j < COLUMNS; j++)
#pragma unroll
          for (int x = 0; x < 4; x++) s[j][x] += dense[j][x] * LOG2E;
      if (masked) hide(s, m0, querySegments);
    }
#pragma unroll
    for (int j = 0; j < COLUMNS; j++) {
      const float2 two = *reinterpret_cast<const float2 *>(lse + 8 * j + laneColumn());
#pragma unroll
      for (int x = 0; x < 4; x++) s[j][x] = exponential2(s[j][x] * factor + (shift - (x % 2 ? two.y : two.x)));
    }
  }

  /** From products of values and dout to the gradients of the scores; shares become those that dropout scaled. */
  DEVICE void gradients(Scores &shares, Scores &ds, int m0, const float *delta) const {
#pragma unroll
    for (int j = 0; j < COLUMNS; j++) {
      const float2 two = *reinterpret_cast<const float2 *>(delta + 8 * j + laneColumn());
      float kept[4] = {1, 1, 1, 1};
      if (DROPOUT) columnFactors(p, b, h, m0 + 8 * j + laneColumn(), n0 + laneRow(), kept);
#pragma unroll
      for (int x = 0; x < 4; x++) {
        ds[j][x] = shares[j][x] * (kept[x] * ds[j][x] - (x % 2 ? two.y : two.x));
        shares[j][x] *= kept[x];
      }
    }
  }

 private:
  DEVICE void finish(Scores &s, float factor, float shift, int at, bool constant) const {
    if (!BIAS || constant) {
#pragma unroll
      for (int j = 0; j < COLUMNS; j++)
#pragma unroll
        for (int x = 0; x < 4; x++) s[j][x] = s[j][x] * factor + shift;
      return;
    }
#pragma unroll
    for (int u = 1 - COLUMNS; u < 2; u++) {  // key halves 8 u further than accumulators of queries
      const float x = row.at(at + 8 * u + laneRow() - laneColumn()), y = row.at(at + 8 * u + laneRow() - laneColumn() - 1);
#pragma unroll
      for (int i = 0; i < 2; i++) {
        const int j = i - u;
        if (j < 0 || j >= COLUMNS) continue;
        s[j][2 * i] = s[j][2 * i] * factor + x;
        s[j][2 * i + 1] = s[j][2 * i + 1] * factor + y;
      }
    }
  }

  DEVICE void hide(Scores &s, int m0, const int *querySegments) const {
#pragma unroll
    for (int j = 0; j < COLUMNS; j++)
#pragma unroll
      for (int e = 0; e < 2; e++) {
        const int query = 8 * j + laneColumn() + e, other = SEGMENTS == 2 ? querySegments[query] : 0;
        const int m = m0 + query;
#pragma unroll
        for (int i = 0; i < 2; i++) {
          const int n = n0 + 8 * i + laneRow();
          bool sees = n < int(p.N);
          if (CAUSAL) sees = sees && n <= m + p.queryOffset;
          if (SEGMENTS) sees = sees && segment[i] >= 0;
          if (SEGMENTS == 2) sees = sees && segment[i] == other;
          if (!sees) s[j][2 * i + e] = -infinity();
        }
      }
  }
};

/** Starts to copy what is known of COUNT queries: lse, then delta. The block has 2 COUNT threads or more. */
template <int COUNT> DEVICE void copyStatistics(float *to, const RowStatistics *from) {
  const int i = threadIdx.x;
  if (i < 2 * COUNT) copyAsync<4>(to + i, reinterpret_cast<const float *>(from + i % COUNT) + i / COUNT);
}

/** A warp's queries, 16 TILES of them from m0 on, meeting strips of 8 COLUMNS keys. */
template <int TILES, int COLUMNS> struct QueryRows {
  static constexpr int OWN = 16 * TILES, SPAN = 8 * COLUMNS;
  using Scores = float[TILES][COLUMNS][4];
  const Problem &p;
  const BiasRow &row;
  i64 b, h;
  int m0;
  RowStatistics statistics[2 * TILES];
  int segment[2 * TILES];

  DEVICE QueryRows(const Problem &p, const BiasRow &row, i64 b, i64 h, int m0) : p(p), row(row) { move(b, h, m0); }
  DEVICE QueryRows(const Problem &p, const BiasRow &row, i64 b, i64 h, int m0, const RowStatistics *rows)
      : QueryRows(p, row, b, h, m0) {
    readStatistics(rows);
  }
  /** To other queries. */
  DEVICE void move(i64 toB, i64 toH, int toM0) {
    b = toB;
    h = toH;
    m0 = toM0;
#pragma unroll
    for (int i = 0; i < 2 * TILES; i++) {
      const int m = m0 + 8 * i + laneRow();
      segment[i] = SEGMENTS == 2 && m < int(p.M) ? p.querySegments[b * p.M + m] : -1;
    }
  }

  /** Works out those of row b of the batch, from rows of whole 16 bytes. */
  DEVICE void findStatistics(RowStatistics (&found)[2 * TILES], i64 b, const T *dout, const T *out, const float *lse) const {
    float delta[2 * TILES] = {};
#pragma unroll
    for (int i = 0; i < 2 * TILES; i++) {
      const int m = m0 + 8 * i + laneRow();
      if (m < int(p.M))
#pragma unroll
        for (int d = threadIdx.x % 4 * RUN; d < HEAD_WIDTH; d += 4 * RUN) {
          float x[RUN], y[RUN];
          load(dout + p.row(b, h, m) + d, x);
          load(out + p.row(b, h, m) + d, y);
#pragma unroll
          for (int e = 0; e < RUN; e++) delta[i] += x[e] * y[e];
        }
    }
#pragma unroll
    for (int i = 0; i < 2 * TILES; i++) {
      const int m = m0 + 8 * i + laneRow();
      const float l = m < int(p.M) ? lse[(b * p.H + h) * p.M + m] : -infinity();
      found[i] = make_float2(l == -infinity() ? infinity() : l * LOG2E, acrossLanes<Sum, 4>(delta[i]));
    }
  }

  /** The dense bias of keys n0.. on; asked for a strip ahead, since it comes from far. */
  DEVICE void readDense(Scores &dense, int n0) const {
    if (!DENSE) return;
#pragma unroll
    for (int i = 0; i < 2 * TILES; i++) {
      const float *from = p.dense + p.densePlane(b, h) + min(m0 + 8 * i + laneRow(), int(p.M) - 1) * p.N;
#pragma unroll
      for (int j = 0; j < COLUMNS; j++)
#pragma unroll
        for (int e = 0; e < 2; e++) {
          const int n = n0 + 8 * j + laneColumn() + e;
          dense[i / 2][j][i % 2 * 2 + e] = n < int(p.N) ? from[n] : 0;
        }
    }
  }

  /** From products with keys n0.. on to shares; `dense` is what readDense gave. */
  DEVICE void shares(Scores &s, const Scores &dense, int n0, const int *keySegments, bool partly) const {
    const int relative = n0 - m0 - p.queryOffset;  // of the first query and key
    float factor = p.scale * LOG2E, shift = 0;
    const bool far = !BIAS || relative + SPAN - 1 <= -row.radius || relative - (OWN - 1) >= row.radius;
    if (BIAS && far) shift = relative < 0 ? row.low : row.high;
    const bool masked = partly || n0 + SPAN > int(p.N) || (CAUSAL && relative + SPAN - 1 > 0);
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
      if (masked) hide(s, n0, keySegments);
    }
#pragma unroll
    for (int i = 0; i < 2 * TILES; i++)
#pragma unroll
      for (int j = 0; j < COLUMNS; j++)
#pragma unroll
        for (int e = 0; e < 2; e++) {
          float &x = s[i / 2][j][i % 2 * 2 + e];
          x = exponential2(x * factor + (shift - statistics[i].x));
        }
  }

  /** From products of dout and values to the gradients of the scores. */
  DEVICE void gradients(const Scores &shares, Scores &ds, int n0) const {
#pragma unroll
    for (int i = 0; i < 2 * TILES; i++)
#pragma unroll
      for (int j = 0; j < COLUMNS; j += 2) {
        float kept[2][2] = {{1, 1}, {1, 1}};
        if (DROPOUT) rowFactors(p, b, h, m0 + 8 * i + laneRow(), n0 + 8 * j + laneColumn(), kept);
#pragma unroll
        for (int e = 0; e < 4; e++) {
          float &x = ds[i / 2][j + e / 2][i % 2 * 2 + e % 2];
          x = shares[i / 2][j + e / 2][i % 2 * 2 + e % 2] * (kept[e / 2][e % 2] * x - statistics[i].y);
        }
      }
  }

 private:
  DEVICE void readStatistics(const RowStatistics *rows) {
#pragma unroll
    for (int i = 0; i < 2 * TILES; i++) {
      const int m = m0 + 8 * i + laneRow();
      statistics[i] = m < paddedRows(p.M) ? rows[(b * p.H + h) * paddedRows(p.M) + m] : make_float2(infinity(), 0);
    }
  }

  DEVICE void hide(Scores &s, int n0, const int *keySegments) const {
#pragma unroll
    for (int i = 0; i < 2 * TILES; i++) {
      const int m = m0 + 8 * i + laneRow();
#pragma unroll
      for (int j = 0; j < COLUMNS; j++)
#pragma unroll
        for (int e = 0; e < 2; e++) {
          const int key = 8 * j + laneColumn() + e;
          const int n = n0 + key;
          bool sees = n < int(p.N);
          if (CAUSAL) sees = sees && n <= m + p.queryOffset;
          if (SEGMENTS) sees = sees && keySegments[key] >= 0;
          if (SEGMENTS == 2) sees = sees && keySegments[key] == segment[i];
          if (!sees) s[i / 2][j][i % 2 * 2 + e] = -infinity();
        }
    }
  }
};
