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
  /** The sum of a diagonal, counted from turn 0's 0th, over turns [count,pitch] in memory. */
  static DEVICE float diagonal(const float *turns, int count, int pitch, int diagonal) {
    float sum = 0;
#pragma unroll
    for (int group = 0; group < 8; group++) {
      const int query = (group - diagonal) & 7, t = (diagonal - group + query) >> 3;
      if (t >= 0 && t < count) sum += turns[t * pitch + group * 8 + query];
    }
    return sum;
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

/** Sums each strip's diagonals at once: little memory. */
template <int COLUMNS> struct PassingDiagonals {
  using T_ = Turns<COLUMNS>;
  static constexpr int PITCH = 72, STRIP_SIZE = T_::COUNT * PITCH;
  float *turns, *row;
  int radius;
  Ends ends;

  /** Floats of shared memory that a warp takes; an even number, since turns are pairs and P is odd. */
  static DEVICE int space(int P) { return STRIP_SIZE + P + P % 2; }
  DEVICE PassingDiagonals(float *space, int P, int) : turns(space), row(space + STRIP_SIZE), radius((P - 1) / 2) {
    for (int i = threadIdx.x % WARP; i < P; i += WARP) row[i] = 0;
  }

  DEVICE void add(const float (&ds)[COLUMNS][4], int relative, bool far) {
    if (far) {
      (relative < 0 ? ends.low : ends.high) += T_::all(ds);
      return;
    }
    const int lane = threadIdx.x % WARP;
    __syncwarp();
#pragma unroll
    for (int t = 0; t < T_::COUNT; t++) *reinterpret_cast<float2 *>(turns + t * PITCH + 2 * lane) = T_::sum(ds, t);
    __syncwarp();
    for (int i = lane; i < T_::OWN + T_::SPAN - 1; i += WARP) {
      const int diagonal = i - (T_::SPAN - 1), at = relative + diagonal;
      const float sum = T_::diagonal(turns, T_::COUNT, PITCH, diagonal + T_::SPAN - 8);
      if (at <= -radius) ends.low += sum;
      else if (at >= radius) ends.high += sum;
      else row[at + radius] += sum;
    }
  }

  /** The warp's row [P]. */
  DEVICE float *finish(int P, float *) {
    ends.finish(row, P);
    return row;
  }
};

/** Keeps the turns of all strips, COUNT of them, and sums diagonals at the end: few instructions. */
template <int COLUMNS, int COUNT> struct HeldDiagonals {
  using T_ = Turns<COLUMNS>;
  static constexpr int PITCH = 64;
  float *turns;
  int radius, lowest;  // relative position of the first strip that is not wholly below -R
  Ends ends;

  static DEVICE int space(int) { return COUNT * PITCH; }
  /** `relative` is that of any strip. */
  DEVICE HeldDiagonals(float *space, int P, int relative) : turns(space), radius((P - 1) / 2) {
    const int least = -radius - T_::OWN + 2, beyond = (relative - least) % T_::SPAN;
    lowest = least + (beyond < 0 ? beyond + T_::SPAN : beyond);
#pragma unroll 1
    for (int t = 0; t < COUNT; t++) at(t) = make_float2(0, 0);
  }

  DEVICE float2 &at(int t) { return *reinterpret_cast<float2 *>(turns + t * PITCH + 2 * (threadIdx.x % WARP)); }

  DEVICE void add(const float (&ds)[COLUMNS][4], int relative, bool far) {
    if (far) {
      (relative < 0 ? ends.low : ends.high) += T_::all(ds);
      return;
    }
    float2 *to = &at((relative - lowest) / 8);
#pragma unroll
    for (int t = 0; t < T_::COUNT; t++) {
      float2 &turn = to[t * PITCH / 2];
      const float2 sum = T_::sum(ds, t);
      turn = make_float2(turn.x + sum.x, turn.y + sum.y);
    }
  }

  /** The warp's row [P], in `row`. */
  DEVICE float *finish(int P, float *row) {
    for (int i = threadIdx.x % WARP; i < P; i += WARP) row[i] = 0;
    __syncwarp();
    for (int i = threadIdx.x % WARP; i < 8 * COUNT + 7; i += WARP) {
      const float sum = T_::diagonal(turns, COUNT, PITCH, i - 7);
      const int at = lowest - (T_::SPAN - 8) + i - 7;
      if (at <= -radius) ends.low += sum;
      else if (at >= radius) ends.high += sum;
      else row[at + radius] = sum;
    }
    ends.finish(row, P);
    return row;
  }
};
