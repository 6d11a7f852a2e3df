// attention, CUDA, backward on Hopper's tensor cores (sm_90a): dk, dv and the bias's gradient of one block of keys, 64 to
// a warpgroup, which walks over the queries. Contract and formulas: attention.ts.
#include "diagonals.cuh"
#include "gradients.cuh"
#include "wgmma.cuh"

// GROUPS: warpgroups of a block. STAGES: tiles of queries in shared memory. BLOCKS: of a multiprocessor.
// BIAS_GRADIENT: 0, 1.
constexpr int THREADS = GROUPS * WARPGROUP, WARPS = THREADS / WARP, KEYS = 64 * GROUPS, QUERIES = 64, AHEAD = STAGES - 2;
constexpr int COLUMNS = QUERIES / 8, PANELS = HEAD_WIDTH / PANEL, MARGIN = 16 + QUERIES;
constexpr bool KEYS_IN_REGISTERS = HEAD_WIDTH == 64;
using KeyTile = Panels<HEAD_WIDTH, KEYS>;
using QueryTile = Panels<HEAD_WIDTH, QUERIES>;
using Held = unsigned[KEYS_IN_REGISTERS ? KeyTile::STEPS : 1][4];
using Diagonals = PassingDiagonals<COLUMNS>;
extern __shared__ __align__(1024) unsigned char memory[];

KERNEL __launch_bounds__(THREADS, BLOCKS)
    attention_keys_sm90(PROBLEM_PARAMETERS, const T *dout, const RowStatistics *rows, T *dk, T *dv, float *partial) {
  const Problem p PROBLEM;
  const i64 n0 = i64(blockIdx.x) * KEYS, h = blockIdx.y, b = blockIdx.z;
  const int lane = threadIdx.x % WARP, warp = threadIdx.x / WARP, own = warp * 16;
  const int stride = int(H) * HEAD_WIDTH, queryStride = stride * QUERY_PARTS, keyStride = stride * KEY_PARTS;
  const i64 head = h * HEAD_WIDTH, rowHead = b * M * stride + head;
  const i64 queryHead = b * M * queryStride + head, keyHead = b * N * keyStride + head;

  T *keyTile = reinterpret_cast<T *>(memory), *valueTile = keyTile + KeyTile::SIZE;
  T *queryTiles = valueTile + KeyTile::SIZE, *doutTiles = queryTiles + STAGES * QueryTile::SIZE;
  float *rowTiles = reinterpret_cast<float *>(doutTiles + STAGES * QueryTile::SIZE);
  int *segmentTiles = reinterpret_cast<int *>(rowTiles + STAGES * 2 * QUERIES);
  float *diagonals = reinterpret_cast<float *>(segmentTiles + (SEGMENTS == 2 ? STAGES * QUERIES : 0));
  float *biasShared = diagonals + (BIAS_GRADIENT ? WARPS * Diagonals::space(int(P)) : 0);
  unsigned char *sights = reinterpret_cast<unsigned char *>(biasShared + (BIAS == 1 ? P + 2 * MARGIN : 0));

  const int tiles = int((M + QUERIES - 1) / QUERIES);
  const int firstTile = CAUSAL ? int(max(i64(0), n0 - queryOffset) / QUERIES) : 0;
  KeyTile::copy<THREADS>(keyTile, k + keyHead + n0 * keyStride, keyStride, int(N - n0));
  KeyTile::copy<THREADS>(valueTile, v + keyHead + n0 * keyStride, keyStride, int(N - n0));
  const BiasRow row(p, h, biasShared, MARGIN);
  if (SEGMENTS) {
    const Range keys = segmentRange<KEYS>(keySegments + b * N, n0, N);
    for (int t = warp; t < tiles; t += WARPS) {
      const Range queries = SEGMENTS == 2 ? segmentRange<QUERIES>(querySegments + b * M, i64(t) * QUERIES, M) : Range{};
      const unsigned char s = sight(queries, keys);
      if (lane == 0) sights[t] = s;
    }
    __syncthreads();
  }
  const auto next = [&](int t) {
    while (SEGMENTS && t < tiles && sights[t] == NONE) t++;
    return t;
  };
  // Tiles are loaded AHEAD of their use; the one a stage held before has been multiplied by all warps by then.
  int loading = next(firstTile), loadingStage = 0;
  const i64 tileStride = i64(QUERIES) * stride;
  i64 loadingAt = loading * tileStride;
  const auto loadNext = [&] {
    if (loading < tiles) {
      const int m0 = loading * QUERIES;
      QueryTile::copy<THREADS>(queryTiles + loadingStage * QueryTile::SIZE, q + queryHead + loadingAt * QUERY_PARTS, queryStride, int(M) - m0);
      QueryTile::copy<THREADS>(doutTiles + loadingStage * QueryTile::SIZE, dout + rowHead + loadingAt, stride, int(M) - m0);
      copyStatistics<QUERIES>(rowTiles + loadingStage * 2 * QUERIES, rows + (b * H + h) * paddedRows(M) + m0);
      if (SEGMENTS == 2 && threadIdx.x < QUERIES && m0 + threadIdx.x < M)
        copyAsync<4>(segmentTiles + loadingStage * QUERIES + threadIdx.x, querySegments + b * M + m0 + threadIdx.x);
      const int following = next(loading + 1);
      loadingAt += (SEGMENTS ? following - loading : 1) * tileStride;
      loading = following;
      loadingStage = loadingStage + 1 == STAGES ? 0 : loadingStage + 1;
    }
    commitCopies();
  };

  const KeyRows<COLUMNS> keys(p, row, b, h, n0 + own);
  Diagonals gradient(diagonals + warp * Diagonals::space(int(P)), BIAS_GRADIENT ? int(P) : 0);
  Held ks, vs;
  unsigned leftShares[QUERIES / 16][4], leftDs[QUERIES / 16][4];
  float dkSums[PANELS][8][4] = {}, dvSums[PANELS][8][4] = {}, s[COLUMNS][4], ds[COLUMNS][4], additive[COLUMNS][4];
  const auto start = [&](float(&c)[COLUMNS][4], const Held &held, const T *left, const T *right, int step) {
    if constexpr (KEYS_IN_REGISTERS) multiplyGroup<0>(c, held[step], QueryTile::rows(right, 0, step), step > 0, q);
    else multiplyShared(c, KeyTile::rows(left, own / 64 * 64, step), QueryTile::rows(right, 0, step), step > 0, q);
  };
  const auto startScores = [&](int stage) {
    startProducts();
#pragma unroll
    for (int step = 0; step < KeyTile::STEPS; step++)
      start(s, ks, keyTile, queryTiles + stage * QueryTile::SIZE, step);
    commitProducts();
#pragma unroll
    for (int step = 0; step < KeyTile::STEPS; step++)
      start(ds, vs, valueTile, doutTiles + stage * QueryTile::SIZE, step);
    commitProducts();
  };
  const auto startSums = [&](int stage) {
#pragma unroll
    for (int j = 0; j < QUERIES / 16; j++)
#pragma unroll
      for (int panel = 0; panel < PANELS; panel++) {
        multiplyGroup<1>(dvSums[panel], leftShares[j],
                         QueryTile::rightTransposed(doutTiles + stage * QueryTile::SIZE, 16 * j, panel), 1, q);
        multiplyGroup<1>(dkSums[panel], leftDs[j],
                         QueryTile::rightTransposed(queryTiles + stage * QueryTile::SIZE, 16 * j, panel), 1, q);
      }
    commitProducts();
  };
  const auto share = [&](int tile, int stage) {
    keys.shares(s, additive, tile * QUERIES, rowTiles + stage * 2 * QUERIES, segmentTiles + stage * QUERIES,
                SEGMENTS && sights[tile] == PARTLY);
    keys.readDense(additive, next(tile + 1) * QUERIES);
  };
  const auto differentiate = [&](int tile, int stage) {
    const int m0 = tile * QUERIES;
    keys.gradients(s, ds, m0, rowTiles + (stage * 2 + 1) * QUERIES);
    if (BIAS_GRADIENT) gradient.add(ds, keys.relative(m0), keys.far(keys.relative(m0)));
  };
  const auto round = [&] {
#pragma unroll
    for (int j = 0; j < COLUMNS; j += 2) {
      asLeft(leftShares[j / 2], s[j], s[j + 1]);
      asLeft(leftDs[j / 2], ds[j], ds[j + 1]);
    }
  };

#pragma unroll
  for (int i = 0; i < AHEAD; i++) loadNext();
  if (int tile = next(firstTile); tile < tiles) {
    keys.readDense(additive, tile * QUERIES);
    waitTile<AHEAD - 1>();
    if constexpr (KEYS_IN_REGISTERS)
#pragma unroll
      for (int step = 0; step < KeyTile::STEPS; step++) {
        KeyTile::left(ks[step], keyTile, own, step);
        KeyTile::left(vs[step], valueTile, own, step);
      }
    loadNext();
    startScores(0);
    waitProducts<1>();
    share(tile, 0);
    waitProducts<0>();
    differentiate(tile, 0);
    round();
    int stage = 0;
    // The products with a tile's queries run beside the next tile's exponentials.
    for (tile = next(tile + 1); tile < tiles; tile = next(tile + 1)) {
      const int following = stage + 1 == STAGES ? 0 : stage + 1;
      waitTile<AHEAD - 1>();
      loadNext();
      startScores(following);
      startSums(stage);
      waitProducts<2>();
      share(tile, following);
      settle(s);
      waitProducts<1>();
      differentiate(tile, following);
      settle(s);
      settle(ds, p);
      waitProducts<0>();
      round();
      stage = following;
    }
    startProducts();
    startSums(stage);
    waitProducts<0>();
  }
  waitCopies<0>();
  __syncthreads();
#pragma unroll
  for (int panel = 0; panel < PANELS; panel++) {
    KeyTile::put(keyTile, own, panel, dkSums[panel], scale);
    KeyTile::put(valueTile, own, panel, dvSums[panel], 1);
  }
  KeyTile::write(keyTile, own, dk + keyHead, keyStride, n0 + own, N);
  KeyTile::write(valueTile, own, dv + keyHead, keyStride, n0 + own, N);
  if (!BIAS_GRADIENT) return;
  gradient.finish<WARPS>(diagonals, partial + ((b * H + h) * gridDim.x + blockIdx.x) * P, int(P), 0);
}
