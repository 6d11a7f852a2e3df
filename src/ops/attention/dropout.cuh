// Dropout's factors for accumulators [16,8]: neighbouring lanes share the random words, which come four at a time.
#pragma once
#include "problem.cuh"

/** Of query m and keys n, n + 1 and n + 8, n + 9, where n is the lane's first column: two accumulators' rows. */
DEVICE void rowFactors(const Problem &p, i64 b, i64 h, int m, int n, float (&kept)[2][2]) {
  if (p.N % 4) {
#pragma unroll
    for (int i = 0; i < 4; i++) kept[i / 2][i % 2] = p.factor(b, h, m, n + 8 * (i / 2) + i % 2);
    return;
  }
  // Two lanes see the two halves of a block: the even one draws for the first accumulator, the odd one for the second.
  const bool odd = threadIdx.x % 2;
  const uint4 w = p.words(b, h, m, odd ? n - 2 + 8 : n);
  const unsigned low = __shfl_xor_sync(ALL_LANES, odd ? w.x : w.z, 1), high = __shfl_xor_sync(ALL_LANES, odd ? w.y : w.w, 1);
  kept[0][0] = p.kept(odd ? low : w.x);
  kept[0][1] = p.kept(odd ? high : w.y);
  kept[1][0] = p.kept(odd ? w.z : low);
  kept[1][1] = p.kept(odd ? w.w : high);
}

/** Of queries m, m + 1 and keys n, n + 8, where n is the lane's first row: kept[i] as an accumulator holds them. */
DEVICE void columnFactors(const Problem &p, i64 b, i64 h, int m, int n, float (&kept)[4]) {
  if (p.N % 4) {
#pragma unroll
    for (int i = 0; i < 4; i++) kept[i] = p.factor(b, h, m + i % 2, n + 8 * (i / 2));
    return;
  }
  // Four lanes, 4 apart, see the four words of a block: each draws the block of one of the four values, then they swap.
  const int mine = threadIdx.x / 4 % 4;
  const uint4 w = p.words(b, h, m + mine % 2, n - mine + 8 * (mine / 2));
  unsigned got[4];  // from the lane whose number differs from mine by i
#pragma unroll
  for (int i = 0; i < 4; i++) got[i] = __shfl_xor_sync(ALL_LANES, Problem::wordOf(w, mine ^ i), 4 * i);
#pragma unroll
  for (int i = 0; i < 4; i++) kept[i] = p.kept(Problem::wordOf(make_uint4(got[0], got[1], got[2], got[3]), mine ^ i));
}
