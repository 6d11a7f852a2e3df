// attention, CUDA, backward on tensor cores (sm_80 and newer): dq of a block of queries, and ddense of a tile. A warp
// holds 16 or 32 queries. Contract and formulas: attention.ts.
#include "gradients.cuh"
#include "mma.cuh"

// ROW_TILES: groups of 16 queries of a warp. KEYS: of a tile.
using R = Rows<HEAD_WIDTH>;
constexpr int WARPS = 4, THREADS = WARPS * WARP, OWN = 16 * ROW_TILES, QUERIES = WARPS * OWN;
constexpr int STRIP = 32, COLUMNS = STRIP / 8, MARGIN = OWN + STRIP;  // keys at once, of a tile
constexpr bool QUERIES_IN_REGISTERS = R::WIDTH <= 64;
extern __shared__ __align__(16) unsigned char memory[];

using Left = unsigned[ROW_TILES][QUERIES_IN_REGISTERS ? R::STEPS : 1][4];
using Warp = QueryRows<ROW_TILES, COLUMNS>;
using Scores = Warp::Scores;

DEVICE void readLeft(Left &to, const T *tile, int own) {
  if constexpr (QUERIES_IN_REGISTERS)
#pragma unroll
    for (int i = 0; i < ROW_TILES; i++)
#pragma unroll
      for (int step = 0; step < R::STEPS; step++) R::left(to[i][step], tile, own + 16 * i, step);
}

/** Products of the warp's rows, held in registers or in `tile`, and 32 rows of another tile. */
DEVICE void dots(Scores &s, const Left &held, const T *tile, int own, const T *other, int strip) {
#pragma unroll
  for (int i = 0; i < ROW_TILES; i++)
#pragma unroll
    for (int j = 0; j < COLUMNS; j++)
#pragma unroll
      for (int x = 0; x < 4; x++) s[i][j][x] = 0;
#pragma unroll
  for (int step = 0; step < R::STEPS; step++) {
    unsigned a[ROW_TILES][4];
#pragma unroll
    for (int i = 0; i < ROW_TILES; i++) {
      if (!QUERIES_IN_REGISTERS) R::left(a[i], tile, own + 16 * i, step);
      else
#pragma unroll
        for (int x = 0; x < 4; x++) a[i][x] = held[i][step][x];
    }
#pragma unroll
    for (int j = 0; j < COLUMNS; j += 2) {
      unsigned right[4];
      R::right(right, other, strip + 8 * j, step);
#pragma unroll
      for (int i = 0; i < ROW_TILES; i++) {
        multiply(s[i][j], a[i], right[0], right[1], tile);
        multiply(s[i][j + 1], a[i], right[2], right[3], tile);
      }
    }
  }
}

KERNEL __launch_bounds__(THREADS) attention_queries(PROBLEM_PARAMETERS, const T *dout, const RowStatistics *rows, T *dq) {
  const Problem p PROBLEM;
  const i64 m0 = i64(CAUSAL ? gridDim.x - 1 - blockIdx.x : blockIdx.x) * QUERIES, h = blockIdx.y, b = blockIdx.z;
  const int lane = threadIdx.x % WARP, own = threadIdx.x / WARP * OWN;
  const int mWarp = int(m0) + own, stride = int(H) * HEAD_WIDTH, queryStride = stride * QUERY_PARTS, keyStride = stride * KEY_PARTS;
  const i64 head = h * HEAD_WIDTH, rowHead = b * M * stride + head;
  const i64 queryHead = b * M * queryStride + head, keyHead = b * N * keyStride + head;

  T *queryTile = reinterpret_cast<T *>(memory), *doutTile = queryTile + QUERIES * R::PITCH;
  T *keyTiles = doutTile + QUERIES * R::PITCH, *valueTiles = keyTiles + 2 * KEYS * R::PITCH;
  int *segmentTiles = reinterpret_cast<int *>(valueTiles + 2 * KEYS * R::PITCH);
  float *biasShared = reinterpret_cast<float *>(segmentTiles + (SEGMENTS ? 2 * KEYS : 0));
  unsigned char *sights = reinterpret_cast<unsigned char *>(biasShared + (BIAS == 1 ? P + 2 * MARGIN : 0));

  const i64 seen = CAUSAL ? min(N, m0 + QUERIES + queryOffset) : N;
  const int tiles = seen <= 0 ? 0 : int((seen + KEYS - 1) / KEYS);
  R::copy<QUERIES, THREADS>(queryTile, q + queryHead + m0 * queryStride, queryStride, int(M - m0));
  R::copy<QUERIES, THREADS>(doutTile, dout + rowHead + m0 * stride, stride, int(M - m0));
  const BiasRow row(p, h, biasShared, MARGIN);
  const Warp queries(p, row, b, h, mWarp, rows);
  if (SEGMENTS) {
    const Range range = SEGMENTS == 2 ? segmentRange<QUERIES>(querySegments + b * M, m0, M) : Range{};
    for (int t = threadIdx.x / WARP; t < tiles; t += WARPS) {
      const unsigned char s = sight(range, segmentRange<KEYS>(keySegments + b * N, i64(t) * KEYS, N));
      if (lane == 0) sights[t] = s;
    }
  }
  __syncthreads();
  const auto next = [&](int t) {
    while (SEGMENTS && t < tiles && sights[t] == NONE) t++;
    return t;
  };
  const auto start = [&](int t, int stage) {
    const i64 n0 = i64(t) * KEYS;
    R::copy<KEYS, THREADS>(keyTiles + stage * KEYS * R::PITCH, k + keyHead + n0 * keyStride, keyStride, int(N - n0));
    R::copy<KEYS, THREADS>(valueTiles + stage * KEYS * R::PITCH, v + keyHead + n0 * keyStride, keyStride, int(N - n0));
    if (SEGMENTS && threadIdx.x < KEYS && n0 + threadIdx.x < N)
      copyAsync<4>(segmentTiles + stage * KEYS + threadIdx.x, keySegments + b * N + n0 + threadIdx.x);
  };

  Left qs, douts;
  float sums[ROW_TILES][2 * R::STEPS][4] = {};
  int tile = next(0), stage = 0;
  if (tile < tiles) start(tile, stage);
  commitCopies();
  for (bool fresh = true; tile < tiles; fresh = false, stage ^= 1) {
    waitCopies<0>();
    __syncthreads();
    if (fresh) {
      readLeft(qs, queryTile, own);
      readLeft(douts, doutTile, own);
    }
    const int following = next(tile + 1);
    if (following < tiles) start(following, stage ^ 1);
    commitCopies();
    const int n0 = tile * KEYS;
    const bool partly = SEGMENTS && sights[tile] == PARTLY;
    tile = following;
    const T *keyTile = keyTiles + stage * KEYS * R::PITCH, *valueTile = valueTiles + stage * KEYS * R::PITCH;
#pragma unroll 1
    for (int strip = 0; strip < KEYS; strip += STRIP) {
      if (CAUSAL && n0 + strip > mWarp + OWN - 1 + queryOffset) break;
      Scores s, ds, additive;
      queries.readDense(additive, n0 + strip);
      dots(s, qs, queryTile, own, keyTile, strip);
      dots(ds, douts, doutTile, own, valueTile, strip);
      queries.shares(s, additive, n0 + strip, segmentTiles + stage * KEYS + strip, partly);
      queries.gradients(s, ds, n0 + strip);
#pragma unroll
      for (int j = 0; j < COLUMNS; j += 2) {
        unsigned left[ROW_TILES][4];
#pragma unroll
        for (int i = 0; i < ROW_TILES; i++) asLeft(left[i], ds[i][j], ds[i][j + 1]);
#pragma unroll
        for (int step = 0; step < R::STEPS; step++) {
          unsigned right[4];
          R::rightTransposed(right, keyTile, strip + 8 * j, step);
#pragma unroll
          for (int i = 0; i < ROW_TILES; i++) {
            multiply(sums[i][2 * step], left[i], right[0], right[1], q);
            multiply(sums[i][2 * step + 1], left[i], right[2], right[3], q);
          }
        }
      }
    }
  }
  waitCopies<0>();
  __syncthreads();
#pragma unroll
  for (int i = 0; i < ROW_TILES; i++) R::put(queryTile, own + 16 * i, sums[i], scale);
  R::write<OWN>(queryTile + own * R::PITCH, dq + queryHead, queryStride, mWarp, M);
}

/** ddense of one tile: the sum over the rows and heads that share the plane. */
KERNEL __launch_bounds__(THREADS)
    attention_dense(PROBLEM_PARAMETERS, const T *dout, const RowStatistics *rows, float *ddense) {
  const Problem p PROBLEM;
  const i64 n0 = i64(blockIdx.x) * KEYS, m0 = i64(blockIdx.y) * QUERIES, e = blockIdx.z / G, g = blockIdx.z % G;
  const int lane = threadIdx.x % WARP, own = threadIdx.x / WARP * OWN;
  const int mWarp = int(m0) + own, stride = int(H) * HEAD_WIDTH, queryStride = stride * QUERY_PARTS, keyStride = stride * KEY_PARTS;
  T *queryTile = reinterpret_cast<T *>(memory), *doutTile = queryTile + QUERIES * R::PITCH;
  T *keyTile = doutTile + QUERIES * R::PITCH, *valueTile = keyTile + KEYS * R::PITCH;
  int *segmentTile = reinterpret_cast<int *>(valueTile + KEYS * R::PITCH);
  float *biasShared = reinterpret_cast<float *>(segmentTile + (SEGMENTS ? KEYS : 0));

  Scores sums[KEYS / STRIP] = {}, additive[KEYS / STRIP];
  bool fresh = true;
  const bool hidden = CAUSAL && n0 > m0 + QUERIES - 1 + queryOffset;
  for (i64 b = E == 1 ? 0 : e; b < (E == 1 ? B : e + 1) && !hidden; b++)
    for (i64 h = G == 1 ? 0 : g; h < (G == 1 ? H : g + 1); h++) {
      __syncthreads();
      const i64 head = h * HEAD_WIDTH, rowHead = b * M * stride + head;
  const i64 queryHead = b * M * queryStride + head, keyHead = b * N * keyStride + head;
      R::copy<QUERIES, THREADS>(queryTile, q + queryHead + m0 * queryStride, queryStride, int(M - m0));
      R::copy<QUERIES, THREADS>(doutTile, dout + rowHead + m0 * stride, stride, int(M - m0));
      R::copy<KEYS, THREADS>(keyTile, k + keyHead + n0 * keyStride, keyStride, int(N - n0));
      R::copy<KEYS, THREADS>(valueTile, v + keyHead + n0 * keyStride, keyStride, int(N - n0));
      if (SEGMENTS && threadIdx.x < KEYS && n0 + threadIdx.x < N)
        segmentTile[threadIdx.x] = keySegments[b * N + n0 + threadIdx.x];
      commitCopies();
      const BiasRow row(p, h, biasShared, MARGIN);
      const Warp queries(p, row, b, h, mWarp, rows);
      if (fresh)
#pragma unroll
        for (int part = 0; part < KEYS / STRIP; part++) queries.readDense(additive[part], int(n0) + part * STRIP);
      fresh = false;  // all that share the plane have the same dense bias
      waitCopies<0>();
      __syncthreads();
      Left qs, douts;
      readLeft(qs, queryTile, own);
      readLeft(douts, doutTile, own);
#pragma unroll
      for (int part = 0; part < KEYS / STRIP; part++) {
        Scores s, ds;
        dots(s, qs, queryTile, own, keyTile, part * STRIP);
        dots(ds, douts, doutTile, own, valueTile, part * STRIP);
        queries.shares(s, additive[part], n0 + part * STRIP, segmentTile + part * STRIP, SEGMENTS != 0);
        queries.gradients(s, ds, n0 + part * STRIP);
#pragma unroll
        for (int i = 0; i < ROW_TILES; i++)
#pragma unroll
          for (int j = 0; j < COLUMNS; j++)
#pragma unroll
            for (int x = 0; x < 4; x++) sums[part][i][j][x] += ds[i][j][x];
      }
    }
#pragma unroll
  for (int part = 0; part < KEYS / STRIP; part++)
#pragma unroll
    for (int i = 0; i < ROW_TILES; i++)
#pragma unroll
      for (int j = 0; j < COLUMNS; j++)
#pragma unroll
        for (int x = 0; x < 4; x++) {
          const i64 m = mWarp + 16 * i + x / 2 * 8 + lane / 4, n = n0 + part * STRIP + 8 * j + lane % 4 * 2 + x % 2;
          if (m < M && n < N) ddense[(blockIdx.z * M + m) * N + n] = sums[part][i][j][x];
        }
}
