// attention, CUDA, the backward pass on Hopper's tensor cores (sm_90a) of up to 128 queries: dq, dk, dv and the bias's
// gradient at once, reading everything once. Contract and formulas: attention.ts.
// Each of two warpgroups has 64 queries and sums their dq while the keys pass by; of each tile of keys, whose queries are
// all there, the first one works out dv and the second one dk. A block goes through one head of several rows of the batch.
#include "diagonals.cuh"
#include "gradients.cuh"
#include "wgmma.cuh"

// STAGES: tiles of keys and values in shared memory. BIAS_GRADIENT: 0, 1.
constexpr int THREADS = 2 * WARPGROUP, WARPS = THREADS / WARP, QUERIES = 128, KEYS = 64, AHEAD = STAGES - 2;
constexpr int COLUMNS = KEYS / 8, STEPS = HEAD_WIDTH / 16, MARGIN = 16 + KEYS;
using QueryTile = Panels<HEAD_WIDTH, QUERIES>;
using KeyTile = Panels<HEAD_WIDTH, KEYS>;
using ScoreTile = Panels<KEYS, QUERIES>;  // queries are rows
using Warp = QueryRows<1, COLUMNS>;
using Diagonals = QueryDiagonals<COLUMNS>;
static_assert(HEAD_WIDTH == PANEL && !DENSE && !DROPOUT, "left to the other kernels");
extern __shared__ __align__(1024) unsigned char memory[];

KERNEL __launch_bounds__(THREADS, 1)
    attention_few_sm90(PROBLEM_PARAMETERS, const T *dout, const T *out, const float *lse, T *dq, T *dk, T *dv, float *partial) {
  const Problem p PROBLEM;
  const i64 h = blockIdx.x;
  const int warp = threadIdx.x / WARP, own = warp * 16, group = warpgroup();
  const int stride = int(H) * HEAD_WIDTH, queryStride = stride * QUERY_PARTS, keyStride = stride * KEY_PARTS;
  const int tiles = int((N + KEYS - 1) / KEYS);

  T *queryTiles = reinterpret_cast<T *>(memory), *doutTiles = queryTiles + 2 * QueryTile::SIZE;
  T *keyTiles = doutTiles + 2 * QueryTile::SIZE, *valueTiles = keyTiles + STAGES * KeyTile::SIZE;
  T *shareTiles = valueTiles + STAGES * KeyTile::SIZE, *dsTiles = shareTiles + 2 * ScoreTile::SIZE;
  int *segmentTiles = reinterpret_cast<int *>(dsTiles + 2 * ScoreTile::SIZE);
  float *diagonals = reinterpret_cast<float *>(segmentTiles + (SEGMENTS ? STAGES * KEYS : 0));
  float *biasShared = diagonals + (BIAS_GRADIENT ? WARPS * Diagonals::space(int(P), tiles) : 0);

  const BiasRow row(p, h, biasShared, MARGIN);
  Diagonals gradient(diagonals + (BIAS_GRADIENT ? warp * Diagonals::space(int(P), tiles) : 0), int(P), tiles, own + queryOffset);

  // Tiles are loaded AHEAD of their use, the queries with the first one.
  i64 loadingB = blockIdx.y;
  int loading = 0, loadingStage = 0, loadingQueries = 0;
  const auto loadNext = [&] {
    if (loadingB < B) {
      if (loading == 0) {
        QueryTile::copy<THREADS>(queryTiles + loadingQueries * QueryTile::SIZE, q + p.query(loadingB, h, 0), queryStride, int(M));
        QueryTile::copy<THREADS>(doutTiles + loadingQueries * QueryTile::SIZE, dout + p.row(loadingB, h, 0), stride, int(M));
        loadingQueries ^= 1;
      }
      const int n0 = loading * KEYS;
      const i64 from = p.key(loadingB, h, n0);
      KeyTile::copy<THREADS>(keyTiles + loadingStage * KeyTile::SIZE, k + from, keyStride, int(N) - n0);
      KeyTile::copy<THREADS>(valueTiles + loadingStage * KeyTile::SIZE, v + from, keyStride, int(N) - n0);
      if (SEGMENTS && threadIdx.x < KEYS && n0 + threadIdx.x < N)
        copyAsync<4>(segmentTiles + loadingStage * KEYS + threadIdx.x, keySegments + loadingB * N + n0 + threadIdx.x);
      loadingStage = loadingStage + 1 == STAGES ? 0 : loadingStage + 1;
      if (++loading == tiles) {
        loading = 0;
        loadingB += gridDim.y;
      }
    }
    commitCopies();
  };

  const Address keyAddress = KeyTile::address(keyTiles), valueAddress = KeyTile::address(valueTiles);
  const Address leftAddress = ScoreTile::address(group ? dsTiles : shareTiles);
  const Address rightAddress = QueryTile::address(group ? queryTiles : doutTiles);
  i64 b = blockIdx.y;
  int tile = 0, stage = 0, held = 0, buffer = 0;  // held: where the queries lie
  Warp queries(p, row, b, h, own);
  unsigned qs[STEPS][4], douts[STEPS][4], leftDs[KEYS / 16][4];
  float dqSums[8][4], sums[8][4], s[1][COLUMNS][4], ds[1][COLUMNS][4];
  RowStatistics following[2];  // of the next queries
  const auto look = [&](i64 b) {
    if (b < B) queries.findStatistics(following, b, dout, out, lse);
  };
  const auto take = [&] {
    queries.move(b, h, own);
    queries.statistics[0] = following[0];
    queries.statistics[1] = following[1];
#pragma unroll
    for (int step = 0; step < STEPS; step++) {
      QueryTile::left(qs[step], queryTiles + held * QueryTile::SIZE, own, step);
      QueryTile::left(douts[step], doutTiles + held * QueryTile::SIZE, own, step);
    }
  };
  const auto startScores = [&] {
    startProducts();
#pragma unroll
    for (int step = 0; step < STEPS; step++)
      multiplyGroup<0>(s[0], qs[step], KeyTile::rows(keyAddress + stage * KeyTile::UNITS, 0, step), step > 0, q);
    commitProducts();
#pragma unroll
    for (int step = 0; step < STEPS; step++)
      multiplyGroup<0>(ds[0], douts[step], KeyTile::rows(valueAddress + stage * KeyTile::UNITS, 0, step), step > 0, q);
    commitProducts();
  };
  const auto startSums = [&](int stage, int held, bool first) {
#pragma unroll
    for (int j = 0; j < QUERIES / 16; j++)
      multiplyTransposed(sums, ScoreTile::rightTransposed(leftAddress + buffer * ScoreTile::UNITS, 16 * j, 0),
                         QueryTile::rightTransposed(rightAddress + held * QueryTile::UNITS, 16 * j, 0), j > 0, q);
#pragma unroll
    for (int j = 0; j < KEYS / 16; j++)
      multiplyGroup<1>(dqSums, leftDs[j], KeyTile::rightTransposed(keyAddress + stage * KeyTile::UNITS, 16 * j, 0), j > 0 || !first, q);
    commitProducts();
  };
  const auto share = [&] {
    const float none[1][COLUMNS][4] = {};
    queries.shares(s, none, tile * KEYS, segmentTiles + stage * KEYS, SEGMENTS);
  };
  const auto differentiate = [&] {
    queries.gradients(s, ds, tile * KEYS);
    if (BIAS_GRADIENT) gradient.add(ds[0], tile * KEYS - own - queryOffset);
  };
  /** Shares and ds become left factors; the warp's rows of them are there for both warpgroups after the next barrier. */
  const auto give = [&] {
    const int lane = threadIdx.x % WARP;
#pragma unroll
    for (int j = 0; j < COLUMNS; j += 2) {
      unsigned leftShares[4];
      asLeft(leftShares, s[0][j], s[0][j + 1]);
      asLeft(leftDs[j / 2], ds[0][j], ds[0][j + 1]);
      const int at = buffer * ScoreTile::SIZE + ScoreTile::place(own + lane % 16, 8 * j + lane / 16 * 8);
      storeMatrices(shareTiles + at, leftShares);
      storeMatrices(dsTiles + at, leftDs[j / 2]);
    }
  };
  // What a warpgroup has worked out leaves through the rows, its warps' own, of what only it has read.
  const auto put = [&] {
    ScoreTile::put((group ? dsTiles : shareTiles) + buffer * ScoreTile::SIZE, own, 0, sums, group ? scale : 1);
  };
  const auto write = [&](i64 b, int tile, int buffer) {
    const i64 n = i64(tile) * KEYS + own % 64;
    ScoreTile::write((group ? dsTiles : shareTiles) + buffer * ScoreTile::SIZE, own, (group ? dk : dv) + p.key(b, h, 0),
                     keyStride, n, N);
    __syncwarp();
  };
  const auto finish = [&](i64 b, int held) {
    T *through = (group ? queryTiles : doutTiles) + held * QueryTile::SIZE;
    QueryTile::put(through, own, 0, dqSums, scale);
    QueryTile::write(through, own, dq + p.query(b, h, 0), queryStride, own, M);
  };

#pragma unroll
  for (int i = 0; i < AHEAD; i++) loadNext();
  look(b);
  waitTile<AHEAD - 1>();
  take();
  loadNext();
  startScores();
  waitProducts<1>();
  share();
  waitProducts<0>();
  differentiate();
  give();
  i64 lastB = b, givenB = -1;
  int lastTile = 0, lastStage = 0, lastHeld = 0, givenTile = 0;
  // The products with a tile's keys run beside the next tile's exponentials; `given` is a tile ahead of `last`.
  for (;;) {
    if (++tile == tiles) {
      tile = 0;
      b += gridDim.y;
      held ^= 1;
    }
    if (b >= B) break;
    stage = stage + 1 == STAGES ? 0 : stage + 1;
    waitTile<AHEAD - 1>();
    if (tile == 0) take();
    loadNext();
    startScores();
    startSums(lastStage, lastHeld, lastTile == 0);
    if (givenB >= 0) write(givenB, givenTile, buffer ^ 1);
    if (tile == tiles - 1) look(b + gridDim.y);
    waitProducts<2>();
    share();
    settle(s[0]);
    waitProducts<1>();
    differentiate();
    settle(s[0]);
    settle(ds[0], p);
    waitProducts<0>();
    waitWarpgroup(group);
    put();
    if (tile == 0) finish(lastB, lastHeld);
    buffer ^= 1;
    give();
    givenB = lastB;
    givenTile = lastTile;
    lastB = b;
    lastTile = tile;
    lastStage = stage;
    lastHeld = held;
  }
  waitTile<0>();
  startProducts();
  startSums(lastStage, lastHeld, lastTile == 0);
  if (givenB >= 0) write(givenB, givenTile, buffer ^ 1);
  waitProducts<0>();
  waitWarpgroup(group);
  put();
  write(lastB, lastTile, buffer);
  finish(lastB, lastHeld);
  if (!BIAS_GRADIENT) return;
  gradient.finish<WARPS>(diagonals, partial + (blockIdx.y * H + h) * P, int(P), tiles, queryOffset);
}
