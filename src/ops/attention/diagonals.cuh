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

  /** All threads; the sums of the block's OF_BLOCK warps to a row [P]. The last argument is HeldDiagonals' alone. */
  template <int OF_BLOCK> DEVICE void finish(const float *block, float *to, int P, int) {
    ends.finish(row, P);
    __syncthreads();
    for (int i = threadIdx.x; i < P; i += OF_BLOCK * WARP) {
      float sum = 0;
#pragma unroll
      for (int w = 0; w < OF_BLOCK; w++) sum += block[w * space(P) + STRIP_SIZE + i];
      to[i] = sum;
    }
  }
};

/** Keeps a lane's part of each diagonal to the end, for blocks that have many strips on the same diagonals. */
template <int COLUMNS> struct HeldDiagonals {
  using T_ = Turns<COLUMNS>;
  float *turns;  // [slots][lanes][2]: turns of all strips that are not far, those on the same diagonals in one slot
  int radius;
  Ends ends;

  static DEVICE int slots(int P) { return ((CAUSAL ? P / 2 + 1 : P) + T_::SPAN + T_::OWN - 3) / 8 + T_::COUNT; }
  /** Floats of shared memory that a warp takes. */
  static DEVICE int space(int P) { return slots(P) * 2 * WARP + 2; }
  DEVICE HeldDiagonals(float *space, int P) : turns(space), radius((P - 1) / 2) {
    for (int i = threadIdx.x % WARP; i < slots(P) * 2 * WARP; i += WARP) turns[i] = 0;
    __syncwarp();
  }

  DEVICE void add(const float (&ds)[COLUMNS][4], int relative, bool far) {
    if (far) {
      (relative < 0 ? ends.low : ends.high) += T_::all(ds);
      return;
    }
    if (CAUSAL && relative >= T_::SPAN) return;  // hidden
    float2 *place = reinterpret_cast<float2 *>(turns) + (relative + radius + T_::OWN) / 8 * WARP + threadIdx.x % WARP;
#pragma unroll
    for (int t = 0; t < T_::COUNT; t++) {
      const float2 sum = T_::sum(ds, t), before = place[t * WARP];
      place[t * WARP] = make_float2(before.x + sum.x, before.y + sum.y);
    }
  }

  /** As PassingDiagonals'. `relative`: of any strip, since they are multiples of 8 apart. */
  template <int OF_BLOCK> DEVICE void finish(const float *block, float *to, int P, int relative) {
    // Float 8 x + query of a warp's turns belongs to the diagonal x - query + first.
    const int first = ((relative + radius + T_::OWN) & 7) - radius - T_::OWN - T_::SPAN + 8;
    __syncwarp();
    for (int i = threadIdx.x % WARP; i < slots(P) * 2 * WARP; i += WARP) {
      const int diagonal = i / 8 - i % 8 + first;
      if (diagonal <= -radius) ends.low += turns[i];
      else if (diagonal >= radius) ends.high += turns[i];
    }
    float *sums = turns + slots(P) * 2 * WARP;
    sums[0] = sums[1] = 0;
    __syncwarp();
    ends.finish(sums, 2);
    __syncthreads();
    for (int i = threadIdx.x; i < P; i += OF_BLOCK * WARP) {
      float sum = 0;
      for (int w = 0; w < OF_BLOCK; w++) {
        const float *of = block + w * space(P);
        if (i == 0) sum += of[slots(P) * 2 * WARP];
        if (i == P - 1) sum += of[slots(P) * 2 * WARP + 1];
        if (i > 0 && (CAUSAL ? i <= radius : i < P - 1))
#pragma unroll
          for (int query = 0; query < 8; query++) sum += of[8 * (i - radius - first) + 9 * query];
      }
      to[i] = sum;
    }
  }
};

/** As HeldDiagonals for a warp whose 16 queries stay while strips of keys pass, each SPAN further than the last. */
template <int COLUMNS> struct QueryDiagonals {
  static constexpr int OWN = 16, SPAN = 8 * COLUMNS, COUNT = COLUMNS + 1;
  float *turns;
  int radius, base;
  Ends ends;

  /** Enough for all strips, and for those that are not far. */
  static DEVICE int slots(int P, int strips) { return min(strips * COLUMNS, (P + SPAN + OWN - 3) / 8 + COLUMNS) + 1; }
  static DEVICE int space(int P, int strips) { return slots(P, strips) * 2 * WARP + 2; }
  static DEVICE int basis(int P, int first) {
    // The first strip that is not far begins at key n = 0 or where n - first > -radius - SPAN.
    const int lowest = first - (P - 1) / 2 - SPAN + 2;
    return lowest <= 0 ? first : first - (lowest + SPAN - 1) / SPAN * SPAN;
  }
  /** `first`: the position of the warp's first query. */
  DEVICE QueryDiagonals(float *space, int P, int strips, int first) : turns(space), radius((P - 1) / 2), base(basis(P, first)) {
    for (int i = threadIdx.x % WARP; i < (BIAS_GRADIENT ? slots(P, strips) * 2 * WARP : 0); i += WARP) turns[i] = 0;
    __syncwarp();
  }

  /** `relative`: of the first query and key. */
  DEVICE void add(const float (&ds)[COLUMNS][4], int relative) {
    if (relative + SPAN - 1 <= -radius || relative - (OWN - 1) >= radius) {
      float all[2] = {};
#pragma unroll
      for (int j = 0; j < COLUMNS; j++) {
        all[0] += ds[j][0] + ds[j][1];
        all[1] += ds[j][2] + ds[j][3];
      }
      (relative < 0 ? ends.low : ends.high) += all[0] + all[1];
      return;
    }
    float2 *place = reinterpret_cast<float2 *>(turns) + (relative + base) / 8 * WARP + threadIdx.x % WARP;
#pragma unroll
    for (int t = 0; t < COUNT; t++) {  // accumulators 8 (t - 1) to the right of their rows
      float2 sum = place[t * WARP];
#pragma unroll
      for (int i = 0; i < 2; i++) {
        const int j = t - 1 + i;
        if (j < 0 || j >= COLUMNS) continue;
        sum.x += ds[j][2 * i];
        sum.y += ds[j][2 * i + 1];
      }
      place[t * WARP] = sum;
    }
  }

  /** All threads; the block's sums to a row [P]; its warps' queries are 16 apart, the first one's begin at `first`. */
  template <int OF_BLOCK> DEVICE void finish(const float *block, float *to, int P, int strips, int first) {
    const int size = slots(P, strips) * 2 * WARP;
    __syncwarp();
    for (int i = threadIdx.x % WARP; i < size; i += WARP) {
      const int diagonal = i / 64 * 8 + i % 8 - i / 8 % 8 - 8 - base;
      if (diagonal <= -radius) ends.low += turns[i];
      else if (diagonal >= radius) ends.high += turns[i];
    }
    float *sums = turns + size;
    sums[0] = sums[1] = 0;
    __syncwarp();
    ends.finish(sums, 2);
    __syncthreads();
    for (int i = threadIdx.x; i < P; i += OF_BLOCK * WARP) {
      float sum = 0;
      for (int w = 0; w < OF_BLOCK; w++) {
        const float *of = block + w * space(P, strips);
        if (i == 0) sum += of[size];
        if (i == P - 1) sum += of[size + 1];
        if (i == 0 || i == P - 1) continue;
        const int at = i - radius + 8 + basis(P, first + OWN * w);
#pragma unroll
        for (int row = 0; row < 8; row++) {
          const int x = at + row;
          if (x >= 0 && x < size / 8) sum += of[x / 8 * 64 + row * 8 + x % 8];
        }
      }
      to[i] = sum;
    }
  }
};
