// attention, CUDA, the backward pass on Hopper's tensor cores (sm_90a) of whole heads: dq, dk, dv and the bias's gradient
// at once. Contract and formulas: attention.ts.
// A block goes through one head of several rows of the batch, each head's blocks of 128 keys in order, and each of those
// through the queries, 64 to a step. Two warpgroups have 64 keys each and sum dk and dv; together they work out what the
// step adds to dq, half of the columns each. These sums wait in the second-level cache: each has one thread, which adds in
// the order of the keys.
#include "diagonals.cuh"
#include "gradients.cuh"
#include "wgmma.cuh"

// STAGES: steps of queries in shared memory. BIAS_GRADIENT: 0 none, 1 HeldDiagonals, 2 PassingDiagonals.
constexpr int THREADS = 2 * WARPGROUP, WARPS = THREADS / WARP, KEYS = 128, QUERIES = 64, AHEAD = STAGES - 2;
constexpr int COLUMNS = QUERIES / 8, STEPS = HEAD_WIDTH / 16, MARGIN = 16 + QUERIES;
using KeyTile = Panels<HEAD_WIDTH, KEYS>;
using QueryTile = Panels<HEAD_WIDTH, QUERIES>;
using DsTile = Panels<QUERIES, KEYS>;  // keys are rows
#if BIAS_GRADIENT == 1
using Diagonals = HeldDiagonals<COLUMNS>;
#else
using Diagonals = PassingDiagonals<COLUMNS>;
#endif
static_assert(HEAD_WIDTH == PANEL && !DENSE && !DROPOUT && STAGES == 3, "left to the other kernels");
extern __shared__ __align__(1024) unsigned char memory[];

/** Where the walk over rows of the batch, their blocks of keys and the tiles of queries that see these has come to. */
struct Place {
  int b, block, tile;
};

KERNEL __launch_bounds__(THREADS, 1)
    attention_heads_sm90(PROBLEM_PARAMETERS, const T *dout, const RowStatistics *rows, T *dq, T *dk, T *dv, float *sums,
                         float *partial) {
  const Problem p PROBLEM;
  const i64 h = blockIdx.x;
  const int warp = threadIdx.x / WARP, lane = threadIdx.x % WARP, own = warp * 16, group = warpgroup();
  const int stride = int(H) * HEAD_WIDTH, queryStride = stride * QUERY_PARTS, keyStride = stride * KEY_PARTS;
  const int tiles = int((M + QUERIES - 1) / QUERIES), blocks = int((N + KEYS - 1) / KEYS);

  T *keyTiles = reinterpret_cast<T *>(memory), *valueTile = keyTiles + 2 * KeyTile::SIZE;
  T *queryTiles = valueTile + KeyTile::SIZE, *doutTiles = queryTiles + STAGES * QueryTile::SIZE;
  T *dsTiles = doutTiles + STAGES * QueryTile::SIZE;
  float *rowTiles = reinterpret_cast<float *>(dsTiles + 2 * DsTile::SIZE);
  int *segmentTiles = reinterpret_cast<int *>(rowTiles + STAGES * 2 * QUERIES);
  float *diagonals = reinterpret_cast<float *>(segmentTiles + (SEGMENTS == 2 ? STAGES * QUERIES : 0));
  float *biasShared = diagonals + (BIAS_GRADIENT ? WARPS * Diagonals::space(int(P)) : 0);
  const BiasRow row(p, h, biasShared, MARGIN);
  Diagonals gradient(diagonals + warp * Diagonals::space(int(P)), BIAS_GRADIENT ? int(P) : 0);

  // Each block of keys meets two tiles or more, seen or not: what it was copied to is free then. The first one meets all.
  const auto firstTile = [&](int block) {
    return CAUSAL && block > 0 ? min(max(block * KEYS - queryOffset, 0) / QUERIES, tiles - 2) : 0;
  };
  const auto lastBlock = [&](int tile) {
    return CAUSAL && tile < tiles - 2 ? max(min((tile * QUERIES + QUERIES - 1 + queryOffset) / KEYS, blocks - 1), 0) : blocks - 1;
  };
  const auto advance = [&](Place &at) {
    if (++at.tile < tiles) return false;
    if (++at.block == blocks) {
      at.block = 0;
      at.b += gridDim.y;
    }
    at.tile = firstTile(at.block);
    return true;
  };

  // Steps are loaded AHEAD of their use; keys and values with the first of their steps.
  Place loading = {int(blockIdx.y), 0, firstTile(0)};
  int loadingStage = 0, loadingKeys = 0;
  bool opens = true;
  const auto loadNext = [&] {
    if (loading.b < B) {
      if (opens) {
        const i64 from = p.key(loading.b, h, loading.block * KEYS);
        const int count = int(N) - loading.block * KEYS;
        KeyTile::copy<THREADS>(keyTiles + loadingKeys * KeyTile::SIZE, k + from, keyStride, count);
        KeyTile::copy<THREADS>(valueTile, v + from, keyStride, count);
        loadingKeys ^= 1;
      }
      const int m0 = loading.tile * QUERIES;
      QueryTile::copy<THREADS>(queryTiles + loadingStage * QueryTile::SIZE, q + p.query(loading.b, h, m0), queryStride, int(M) - m0);
      QueryTile::copy<THREADS>(doutTiles + loadingStage * QueryTile::SIZE, dout + p.row(loading.b, h, m0), stride, int(M) - m0);
      copyStatistics<QUERIES>(rowTiles + loadingStage * 2 * QUERIES, rows + (loading.b * H + h) * paddedRows(M) + m0);
      if (SEGMENTS == 2 && threadIdx.x < QUERIES && m0 + threadIdx.x < M)
        copyAsync<4>(segmentTiles + loadingStage * QUERIES + threadIdx.x, querySegments + loading.b * M + m0 + threadIdx.x);
      loadingStage = loadingStage + 1 == STAGES ? 0 : loadingStage + 1;
      opens = advance(loading);
    }
    commitCopies();
  };

  const Address keyAddress = KeyTile::address(keyTiles), queryAddress = QueryTile::address(queryTiles),
                doutAddress = QueryTile::address(doutTiles), dsAddress = DsTile::address(dsTiles);
  Place at = {int(blockIdx.y), 0, firstTile(0)};
  int stage = 0, held = 0, buffer = 0;  // held: where the keys lie
  KeyRows<COLUMNS> keys(p, row, at.b, h, own);
  unsigned vs[STEPS][4], leftShares[QUERIES / 16][4], leftDs[QUERIES / 16][4];
  float dkSums[8][4], dvSums[8][4], dqSums[4][4], s[COLUMNS][4], ds[COLUMNS][4];
  const auto take = [&] {
    keys.move(at.b, h, at.block * KEYS + own);
#pragma unroll
    for (int step = 0; step < STEPS; step++)
      KeyTile::left(vs[step], valueTile, own, step);
  };
  const auto startScores = [&] {
    startProducts();
#pragma unroll
    for (int step = 0; step < STEPS; step++)
      multiplyShared(s, KeyTile::rows(keyAddress + held * KeyTile::UNITS, group * 64, step),
                     QueryTile::rows(queryAddress + stage * QueryTile::UNITS, 0, step), step > 0, q);
    commitProducts();
#pragma unroll
    for (int step = 0; step < STEPS; step++)
      multiplyGroup<0>(ds, vs[step], QueryTile::rows(doutAddress + stage * QueryTile::UNITS, 0, step), step > 0, q);
    commitProducts();
  };
  const auto startSums = [&](int stage, int held, bool first) {
#pragma unroll
    for (int j = 0; j < QUERIES / 16; j++) {
      multiplyGroup<1>(dvSums, leftShares[j], QueryTile::rightTransposed(doutAddress + stage * QueryTile::UNITS, 16 * j, 0),
                       j > 0 || !first, q);
      multiplyGroup<1>(dkSums, leftDs[j], QueryTile::rightTransposed(queryAddress + stage * QueryTile::UNITS, 16 * j, 0),
                       j > 0 || !first, q);
    }
#pragma unroll
    for (int j = 0; j < KEYS / 16; j++)
      multiplyTransposed(dqSums, DsTile::rightTransposed(dsAddress + buffer * DsTile::UNITS, 16 * j, 0),
                         KeyTile::rightTransposed(keyAddress + held * KeyTile::UNITS, 16 * j, 0, group * 32), j > 0, q);
    commitProducts();
  };
  const auto share = [&] {
    const float none[COLUMNS][4] = {};
    keys.shares(s, none, at.tile * QUERIES, rowTiles + stage * 2 * QUERIES, segmentTiles + stage * QUERIES, SEGMENTS);
  };
  const auto differentiate = [&] {
    const int m0 = at.tile * QUERIES;
    keys.gradients(s, ds, m0, rowTiles + (stage * 2 + 1) * QUERIES);
    if (BIAS_GRADIENT) gradient.add(ds, keys.relative(m0), keys.far(keys.relative(m0)));
  };
  /** The warp's rows of ds are there for both warpgroups after the next barrier. */
  const auto give = [&] {
#pragma unroll
    for (int j = 0; j < COLUMNS; j += 2) {
      asLeft(leftShares[j / 2], s[j], s[j + 1]);
      asLeft(leftDs[j / 2], ds[j], ds[j + 1]);
      storeMatrices(dsTiles + buffer * DsTile::SIZE + DsTile::place(own + lane % 16, 8 * j + lane / 16 * 8), leftDs[j / 2]);
    }
  };
  /** Adds to dq's sums of a tile; the last block of keys makes them dq. */
  float *const mine = sums + (i64(blockIdx.y) * H + h) * tiles * (QUERIES * HEAD_WIDTH) + threadIdx.x * 4;
  const auto addQueries = [&](const Place &of) {
    float *to = mine + of.tile * (QUERIES * HEAD_WIDTH);
    if (of.block < lastBlock(of.tile)) {
#pragma unroll
      for (int j = 0; j < 4; j++)
        if (of.block == 0) storeThrough(to + j * THREADS * 4, dqSums[j]);
        else addTo(to + j * THREADS * 4, dqSums[j]);
      return;
    }
    if (of.block > 0) {
      float4 before[4];
#pragma unroll
      for (int j = 0; j < 4; j++) before[j] = readBack(to + j * THREADS * 4);
#pragma unroll
      for (int j = 0; j < 4; j++) {
        dqSums[j][0] += before[j].x;
        dqSums[j][1] += before[j].y;
        dqSums[j][2] += before[j].z;
        dqSums[j][3] += before[j].w;
      }
    }
    const int m = hereOnly(of.tile * QUERIES) + own % 64 + laneRow();
    T *row = dq + p.query(of.b, h, m) + group * 32 + laneColumn();
#pragma unroll
    for (int j = 0; j < 4; j++)
#pragma unroll
      for (int half = 0; half < 2; half++)
        if (m + 8 * half < int(M))
          *reinterpret_cast<unsigned *>(row + 8 * half * queryStride + 8 * j) =
              pair(dqSums[j][2 * half] * scale, dqSums[j][2 * half + 1] * scale);
  };
  /** Through the rows, the warp's own, of keys that have been multiplied. */
  const auto finish = [&](const Place &of, int held) {
    T *through = keyTiles + held * KeyTile::SIZE;
    const i64 head = p.key(of.b, h, 0), n = i64(hereOnly(of.block)) * KEYS + own;
    KeyTile::put(through, own, 0, dkSums, scale);
    KeyTile::write(through, own, dk + head, keyStride, n, N);
    __syncwarp();
    KeyTile::put(through, own, 0, dvSums, 1);
    KeyTile::write(through, own, dv + head, keyStride, n, N);
  };

#pragma unroll
  for (int i = 0; i < AHEAD; i++) loadNext();
  waitTile<AHEAD - 1>();
  take();
  loadNext();
  startScores();
  waitProducts<1>();
  share();
  waitProducts<0>();
  differentiate();
  give();
  Place last = at;
  int lastStage = 0, lastHeld = 0;
  bool lastOpens = true;
  // The products with a step's queries run beside the next step's exponentials.
  for (;;) {
    const bool opensBlock = advance(at);
    if (at.b >= B) break;
    stage = stage + 1 == STAGES ? 0 : stage + 1;
    if (opensBlock) held ^= 1;
    waitTile<AHEAD - 1>();
    if (opensBlock) take();
    loadNext();
    const bool idle = at.block * KEYS + group * 64 >= N;  // a warpgroup without keys helps with dq only
    if (idle) {
      startProducts();
      startSums(lastStage, lastHeld, lastOpens);
#pragma unroll
      for (int j = 0; j < COLUMNS; j++)
#pragma unroll
        for (int x = 0; x < 4; x++) s[j][x] = ds[j][x] = 0;
    } else {
      startScores();
      startSums(lastStage, lastHeld, lastOpens);
      waitProducts<2>();
      share();
      settle(s);
      waitProducts<1>();
      differentiate();
      settle(s);
      settle(ds, p);
    }
    waitProducts<0>();
    addQueries(last);
    if (opensBlock) {
      __syncthreads();  // both warpgroups have multiplied the keys
      finish(last, lastHeld);
    }
    buffer ^= 1;
    give();
    last = at;
    lastStage = stage;
    lastHeld = held;
    lastOpens = opensBlock;
  }
  waitTile<0>();
  startProducts();
  startSums(lastStage, lastHeld, lastOpens);
  waitProducts<0>();
  addQueries(last);
  __syncthreads();
  finish(last, lastHeld);
  if (!BIAS_GRADIENT) return;
  gradient.finish<WARPS>(diagonals, partial + (blockIdx.y * H + h) * P, int(P), keys.relative(0));
}
