// What a tile of scores needs beside its product: the bias of its diagonals and who sees whom. For warps that hold
// scores in accumulators [16,8].
#pragma once
#include "problem.cuh"

// Constants of a specialisation: CAUSAL, BIAS (0 none, 1 in shared memory, 2 read where it lies), DENSE, DROPOUT (0, 1),
// SEGMENTS (0 none, 1 of keys, 2 of queries too).

/** One head's bias times log2(e), by relative position; beyond +-R it is constant. */
struct BiasRow {
  const float *values;  // with MARGIN more on either side in shared memory
  int radius, margin;
  float low, high;

  /** Its first `threads` threads fill P + 2 margin floats of shared memory, readable after the next barrier. */
  DEVICE BiasRow(const Problem &p, i64 h, float *shared, int margin, int threads = blockDim.x)
      : radius(p.radius()), margin(margin) {
    if (!BIAS) return;
    const float *row = p.bias + h * p.P;
    low = row[0] * LOG2E;
    high = row[p.P - 1] * LOG2E;
    values = BIAS == 1 ? shared : row;
    if (BIAS == 1)
      for (int i = threadIdx.x; i < p.P + 2 * margin; i += threads)
        shared[i] = row[max(0, min(int(p.P) - 1, i - margin))] * LOG2E;
  }

  /** `relative` is within the margin of [-R, R]. */
  DEVICE float at(int relative) const {
    if (BIAS == 1) return values[relative + radius + margin];
    return values[max(-radius, min(radius, relative)) + radius] * LOG2E;
  }
};

/** Of an accumulator [16,8]: this lane's rows are laneRow() and 8 more, its columns laneColumn() and the next. */
DEVICE int laneRow() { return threadIdx.x % WARP / 4; }
DEVICE int laneColumn() { return threadIdx.x % 4 * 2; }

/** s factor + bias for a warp's 16 TILES queries; `far`: it is `shift` for all. `relative`: of the first query and key. */
template <int TILES, int COLUMNS>
DEVICE void addBias(float (&s)[TILES][COLUMNS][4], const BiasRow &row, float factor, float shift, int relative, bool far) {
  if (!BIAS || far) {
#pragma unroll
    for (int i = 0; i < TILES; i++)
#pragma unroll
      for (int j = 0; j < COLUMNS; j++)
#pragma unroll
        for (int x = 0; x < 4; x++) s[i][j][x] = s[i][j][x] * factor + shift;
    return;
  }
#pragma unroll
  for (int u = 1 - 2 * TILES; u < COLUMNS; u++) {  // accumulators 8 u to the right of their rows
    const int at = relative + 8 * u + laneColumn() - laneRow();
    const float x = row.at(at), y = row.at(at + 1);
#pragma unroll
    for (int i = 0; i < 2 * TILES; i++) {
      const int j = u + i;
      if (j < 0 || j >= COLUMNS) continue;
      s[i / 2][j][i % 2 * 2] = s[i / 2][j][i % 2 * 2] * factor + x;
      s[i / 2][j][i % 2 * 2 + 1] = s[i / 2][j][i % 2 * 2 + 1] * factor + y;
    }
  }
}

struct Range {
  int low, high;
};
/** The segments of entries [first, first + COUNT) before `end`; whole warps call it. */
template <int COUNT> DEVICE Range segmentRange(const int *segments, i64 first, i64 end) {
  Range r = {0x7fffffff, -1};
#pragma unroll
  for (int i = 0; i < COUNT; i += WARP) {
    const i64 at = first + i + threadIdx.x % WARP;
    if (at >= end || i + threadIdx.x % WARP >= COUNT) continue;
    r.low = min(r.low, segments[at]);
    r.high = max(r.high, segments[at]);
  }
  return {__reduce_min_sync(ALL_LANES, r.low), __reduce_max_sync(ALL_LANES, r.high)};
}

constexpr unsigned char NONE = 0, PARTLY = 1, WHOLE = 2;
DEVICE unsigned char sight(Range queries, Range keys) {
  if (keys.high < 0) return NONE;
  if (SEGMENTS < 2) return keys.low >= 0 ? WHOLE : PARTLY;
  if (queries.high < keys.low || queries.low > keys.high || queries.high < 0) return NONE;
  const bool one = keys.low == keys.high && queries.low == queries.high && keys.low == queries.low;
  return one && keys.low >= 0 ? WHOLE : PARTLY;
}
