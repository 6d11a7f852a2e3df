// The bias's gradient: sums of ds along diagonals, by warp, from strips of KeyRows (gradients.cuh).
#pragma once
#include "problem.cuh"

/**
 * Accumulators 8 keys and 8 queries apart lie on the same diagonals. A turn is what they sum to: a lane's two values of
 * turn t belong to the diagonals 8 (t - COLUMNS + 1) + group - query from the strip's first, query = first and the next.
 */
template <int COLUMNS> struct Turns {
  static constexpr int OWN = 16, SPAN = 8 * COLUMNS, COUNT = COLUMNS + 1;

  static DEVICE float2 sum(const float (&ds)[COLUMNS][4], int t) {
    float2 sum = {0, 0};
#pragma unroll
    for (int i = 0; i < 2; i++) {
      const int j = i - (t - (COLUMNS - 1));
      if (j < 0 || j >= COLUMNS) continue;
      sum.x += ds[j][2 * i];
      sum.y += ds[j][2 * i + 1];
    }
    return sum;
  }
  static DEVICE float all(const float (&ds)[COLUMNS][4]) {
    float all[2] = {};
#pragma unroll
    for (int j = 0; j < COLUMNS; j++) {
      all[0] += ds[j][0] + ds[j][1];
      all[1] += ds[j][2] + ds[j][3];
    }
    return all[0] + all[1];
  }
};

/** What lies beyond +-R, of a lane; the warp's sums go to the ends of a row [P]. */
struct Ends {
  float low = 0, high = 0;
  DEVICE void finish(float *row, int P) {
    low = acrossLanes<Sum>(low);
    high = acrossLanes<Sum>(high);
    __syncwarp();
    if (threadIdx.x % WARP) return;
    row[0] += low;
    row[P - 1] += high;
  }
};

/** Adds up each strip's diagonals as it passes. */
template <int COLUMNS> struct PassingDiagonals {
  using T_ = Turns<COLUMNS>;
  static constexpr int COUNT = T_::OWN + T_::SPAN - 1;
  // Turns lie by query, each query's row moved so that diagonals stand below each other; lanes meet different banks.
  static constexpr int PITCH = COUNT + 15 - (COUNT + 10) % 16, STRIP_SIZE = 8 * PITCH;
  static_assert(PITCH % 16 == 5 && PITCH >= COUNT, "banks");
  float *turns, *row;
  int radius;
  Ends ends;

  /** Floats of shared memory that a warp takes. */
  static DEVICE int space(int P) { return STRIP_SIZE + P; }
  /** P = 0: none are wanted and there is no space. */
  DEVICE PassingDiagonals(float *space, int P) : turns(space), row(space + STRIP_SIZE), radius((P - 1) / 2) {
    for (int i = threadIdx.x % WARP; i < (P ? STRIP_SIZE + P : 0); i += WARP) space[i] = 0;
  }

  DEVICE void add(const float (&ds)[COLUMNS][4], int relative, bool far) {
    if (far) {
      (relative < 0 ? ends.low : ends.high) += T_::all(ds);
      return;
    }
    const int lane = threadIdx.x % WARP;
    float *place = turns + lane % 4 * 2 * (PITCH - 1) + lane / 4 + 7;
    __syncwarp();
#pragma unroll
    for (int t = 0; t < T_::COUNT; t++) {
      const float2 sum = T_::sum(ds, t);
      place[8 * t] = sum.x;
      place[8 * t + PITCH - 1] = sum.y;
    }
    __syncwarp();
    constexpr int TIMES = (COUNT + WARP - 1) / WARP;
    float sums[TIMES];
#pragma unroll
    for (int i = 0; i < TIMES; i++) {
      sums[i] = 0;
      if (i * WARP + lane < COUNT)
#pragma unroll
        for (int query = 0; query < 8; query++) sums[i] += turns[query * PITCH + i * WARP + lane];
    }
#pragma unroll
    for (int i = 0; i < TIMES; i++) {
      const int at = relative - (T_::SPAN - 1) + i * WARP + lane;
      if (i * WARP + lane >= COUNT) continue;
      if (at <= -radius) ends.low += sums[i];
      else if (at >= radius) ends.high += sums[i];
      else row[at + radius] += sums[i];
    }
  }

  /** The warp's row [P]. */
  DEVICE float *finish(int P) {
    ends.finish(row, P);
    return row;
  }
};
