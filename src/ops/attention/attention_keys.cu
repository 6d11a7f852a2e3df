// attention, CUDA, backward on tensor cores (sm_80 and newer): dk, dv and the bias's gradient of one block of keys.
// A warp holds the gradients of 16 keys in registers and walks over the queries. Contract and formulas: attention.ts.
#include "diagonals.cuh"
#include "gradients.cuh"
#include "mma.cuh"

// WARPS: of a block, 16 keys each. QUERIES: of a tile. BIAS_GRADIENT: 0, 1.
using R = Rows<HEAD_WIDTH>;
constexpr int THREADS = WARPS * WARP, OWN = 16, KEYS = WARPS * OWN;
constexpr int STRIP = 32, COLUMNS = STRIP / 8, MARGIN = OWN + STRIP;  // queries at once, of a tile
constexpr bool KEYS_IN_REGISTERS = R::WIDTH <= 64;
using Diagonals = PassingDiagonals<COLUMNS>;
extern __shared__ __align__(16) unsigned char memory[];

KERNEL __launch_bounds__(THREADS)
    attention_keys(PROBLEM_PARAMETERS, const T *dout, const RowStatistics *rows, T *dk, T *dv, float *partial) {
  const Problem p PROBLEM;
  const i64 n0 = i64(blockIdx.x) * KEYS, h = blockIdx.y, b = blockIdx.z;
  const int lane = threadIdx.x % WARP, warp = threadIdx.x / WARP;
  const int own = warp * OWN;
  const int nWarp = int(n0) + own, stride = int(H) * HEAD_WIDTH, queryStride = stride * QUERY_PARTS, keyStride = stride * KEY_PARTS;
  const i64 head = h * HEAD_WIDTH, rowHead = b * M * stride + head;
  const i64 queryHead = b * M * queryStride + head, keyHead = b * N * keyStride + head;

  T *keyTile = reinterpret_cast<T *>(memory), *valueTile = keyTile + KEYS * R::PITCH;
  T *queryTiles = valueTile + KEYS * R::PITCH, *doutTiles = queryTiles + 2 * QUERIES * R::PITCH;
  float *rowTiles = reinterpret_cast<float *>(doutTiles + 2 * QUERIES * R::PITCH);
  int *segmentTiles = reinterpret_cast<int *>(rowTiles + 4 * QUERIES);
  float *diagonals = reinterpret_cast<float *>(segmentTiles + (SEGMENTS == 2 ? 2 * QUERIES : 0));
  float *biasShared = diagonals + (BIAS_GRADIENT ? WARPS * Diagonals::space(int(P)) : 0);
  unsigned char *sights = reinterpret_cast<unsigned char *>(biasShared + (BIAS == 1 ? P + 2 * MARGIN : 0));

  const int tiles = int((M + QUERIES - 1) / QUERIES);
  const int firstTile = CAUSAL ? int(max(i64(0), n0 - queryOffset) / QUERIES) : 0;
  R::copy<KEYS, THREADS>(keyTile, k + keyHead + n0 * keyStride, keyStride, int(N - n0));
  R::copy<KEYS, THREADS>(valueTile, v + keyHead + n0 * keyStride, keyStride, int(N - n0));
  const BiasRow row(p, h, biasShared, MARGIN);
  Diagonals gradient(diagonals + warp * Diagonals::space(int(P)), BIAS_GRADIENT ? int(P) : 0);
  if (SEGMENTS) {
    const Range keys = segmentRange<KEYS>(keySegments + b * N, n0, N);
    for (int t = warp; t < tiles; t += WARPS) {
      const Range queries = SEGMENTS == 2 ? segmentRange<QUERIES>(querySegments + b * M, i64(t) * QUERIES, M) : Range{};
      const unsigned char s = sight(queries, keys);
      if (lane == 0) sights[t] = s;
    }
  }
  __syncthreads();
  const auto next = [&](int t) {
    while (SEGMENTS && t < tiles && sights[t] == NONE) t++;
    return t;
  };
  const auto start = [&](int t, int stage) {
    const i64 m0 = i64(t) * QUERIES;
    R::copy<QUERIES, THREADS>(queryTiles + stage * QUERIES * R::PITCH, q + queryHead + m0 * queryStride, queryStride, int(M - m0));
    R::copy<QUERIES, THREADS>(doutTiles + stage * QUERIES * R::PITCH, dout + rowHead + m0 * stride, stride, int(M - m0));
    copyStatistics<QUERIES>(rowTiles + stage * 2 * QUERIES, rows + (b * H + h) * paddedRows(M) + m0);
    if (SEGMENTS == 2 && threadIdx.x < QUERIES && m0 + threadIdx.x < M)
      copyAsync<4>(segmentTiles + stage * QUERIES + threadIdx.x, querySegments + b * M + m0 + threadIdx.x);
  };

  const KeyRows<COLUMNS> warpKeys(p, row, b, h, nWarp);
  unsigned ks[KEYS_IN_REGISTERS ? R::STEPS : 1][4], vs[KEYS_IN_REGISTERS ? R::STEPS : 1][4];
  float dkSums[2 * R::STEPS][4] = {}, dvSums[2 * R::STEPS][4] = {};
  int tile = next(firstTile), stage = 0;
  if (tile < tiles) start(tile, stage);
  commitCopies();
  for (bool fresh = true; tile < tiles; fresh = false, stage ^= 1) {
    waitCopies<0>();
    __syncthreads();
    if (KEYS_IN_REGISTERS && fresh)
#pragma unroll
      for (int step = 0; step < R::STEPS; step++) {
        R::left(ks[step], keyTile, own, step);
        R::left(vs[step], valueTile, own, step);
      }
    const int following = next(tile + 1);
    if (following < tiles) start(following, stage ^ 1);
    commitCopies();
    const int m0 = tile * QUERIES;
    const bool partly = SEGMENTS && sights[tile] == PARTLY;
    tile = following;
    const T *queryTile = queryTiles + stage * QUERIES * R::PITCH, *doutTile = doutTiles + stage * QUERIES * R::PITCH;

#pragma unroll 1
    for (int strip = 0; strip < QUERIES; strip += STRIP) {
      const int mStrip = m0 + strip;
      if (warpKeys.hidden(mStrip)) continue;
      float s[COLUMNS][4] = {}, ds[COLUMNS][4] = {}, additive[COLUMNS][4];
      warpKeys.readDense(additive, mStrip);
#pragma unroll
      for (int step = 0; step < R::STEPS; step++) {
        unsigned a[4], right[4];
        if (!KEYS_IN_REGISTERS) R::left(a, keyTile, own, step);
#pragma unroll
        for (int j = 0; j < COLUMNS; j += 2) {
          R::right(right, queryTile, strip + 8 * j, step);
          multiply(s[j], KEYS_IN_REGISTERS ? ks[step] : a, right[0], right[1], q);
          multiply(s[j + 1], KEYS_IN_REGISTERS ? ks[step] : a, right[2], right[3], q);
        }
      }
#pragma unroll
      for (int step = 0; step < R::STEPS; step++) {
        unsigned a[4], right[4];
        if (!KEYS_IN_REGISTERS) R::left(a, valueTile, own, step);
#pragma unroll
        for (int j = 0; j < COLUMNS; j += 2) {
          R::right(right, doutTile, strip + 8 * j, step);
          multiply(ds[j], KEYS_IN_REGISTERS ? vs[step] : a, right[0], right[1], q);
          multiply(ds[j + 1], KEYS_IN_REGISTERS ? vs[step] : a, right[2], right[3], q);
        }
      }

      const float *lse = rowTiles + stage * 2 * QUERIES + strip, *delta = lse + QUERIES;
      warpKeys.shares(s, additive, mStrip, lse, segmentTiles + stage * QUERIES + strip, partly);
      warpKeys.gradients(s, ds, mStrip, delta);
      const int relative = warpKeys.relative(mStrip);
      if (BIAS_GRADIENT) gradient.add(ds, relative, warpKeys.far(relative));
#pragma unroll
      for (int j = 0; j < COLUMNS; j += 2) {
        unsigned left[4], right[4];
        asLeft(left, s[j], s[j + 1]);
#pragma unroll
        for (int step = 0; step < R::STEPS; step++) {
          R::rightTransposed(right, doutTile, strip + 8 * j, step);
          multiply(dvSums[2 * step], left, right[0], right[1], q);
          multiply(dvSums[2 * step + 1], left, right[2], right[3], q);
        }
        asLeft(left, ds[j], ds[j + 1]);
#pragma unroll
        for (int step = 0; step < R::STEPS; step++) {
          R::rightTransposed(right, queryTile, strip + 8 * j, step);
          multiply(dkSums[2 * step], left, right[0], right[1], q);
          multiply(dkSums[2 * step + 1], left, right[2], right[3], q);
        }
      }
    }
  }
  waitCopies<0>();
  __syncthreads();
  R::put(keyTile, own, dkSums, scale);
  R::put(valueTile, own, dvSums, 1);
  R::write<OWN>(keyTile + own * R::PITCH, dk + keyHead, keyStride, nWarp, N);
  R::write<OWN>(valueTile + own * R::PITCH, dv + keyHead, keyStride, nWarp, N);
  if (!BIAS_GRADIENT) return;
  gradient.finish<WARPS>(diagonals, partial + ((b * H + h) * gridDim.x + blockIdx.x) * P, int(P), 0);
}
