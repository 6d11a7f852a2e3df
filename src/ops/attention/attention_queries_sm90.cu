// attention, CUDA, backward on Hopper's tensor cores (sm_90a): dq of a block of queries, 64 to a warpgroup.
// Contract and formulas: attention.ts.
#include "gradients.cuh"
#include "wgmma.cuh"

// GROUPS: warpgroups of a block. STAGES: tiles of keys and values in shared memory. BLOCKS: of a multiprocessor.
constexpr int THREADS = GROUPS * WARPGROUP, QUERIES = 64 * GROUPS, KEYS = 64, AHEAD = STAGES - 2;
constexpr int COLUMNS = KEYS / 8, PANELS = HEAD_WIDTH / PANEL, MARGIN = 16 + KEYS;
using QueryTile = Panels<HEAD_WIDTH, QUERIES>;
using KeyTile = Panels<HEAD_WIDTH, KEYS>;
using Warp = QueryRows<1, COLUMNS>;
extern __shared__ __align__(1024) unsigned char memory[];

KERNEL __launch_bounds__(THREADS, BLOCKS)
    attention_queries_sm90(PROBLEM_PARAMETERS, const T *dout, const RowStatistics *rows, T *dq) {
  const Problem p PROBLEM;
  const i64 m0 = i64(CAUSAL ? gridDim.x - 1 - blockIdx.x : blockIdx.x) * QUERIES, h = blockIdx.y, b = blockIdx.z;
  const int own = threadIdx.x / WARP * 16;
  const int stride = int(H) * HEAD_WIDTH, queryStride = stride * QUERY_PARTS, keyStride = stride * KEY_PARTS;
  const i64 head = h * HEAD_WIDTH, rowHead = b * M * stride + head;
  const i64 queryHead = b * M * queryStride + head, keyHead = b * N * keyStride + head;

  T *queryTile = reinterpret_cast<T *>(memory), *doutTile = queryTile + QueryTile::SIZE;
  T *keyTiles = doutTile + QueryTile::SIZE, *valueTiles = keyTiles + STAGES * KeyTile::SIZE;
  int *segmentTiles = reinterpret_cast<int *>(valueTiles + STAGES * KeyTile::SIZE);
  float *biasShared = reinterpret_cast<float *>(segmentTiles + (SEGMENTS ? STAGES * KEYS : 0));
  unsigned char *sights = reinterpret_cast<unsigned char *>(biasShared + (BIAS == 1 ? P + 2 * MARGIN : 0));

  const i64 seen = CAUSAL ? min(N, m0 + QUERIES + queryOffset) : N;
  const int tiles = seen <= 0 ? 0 : int((seen + KEYS - 1) / KEYS);
  QueryTile::copy<THREADS>(queryTile, q + queryHead + m0 * queryStride, queryStride, int(M - m0));
  QueryTile::copy<THREADS>(doutTile, dout + rowHead + m0 * stride, stride, int(M - m0));
  const BiasRow row(p, h, biasShared, MARGIN);
  const Warp queries(p, row, b, h, m0 + own, rows);
  if (SEGMENTS) {
    const Range range = SEGMENTS == 2 ? segmentRange<QUERIES>(querySegments + b * M, m0, M) : Range{};
    for (int t = threadIdx.x / WARP; t < tiles; t += THREADS / WARP) {
      const unsigned char s = sight(range, segmentRange<KEYS>(keySegments + b * N, i64(t) * KEYS, N));
      if (threadIdx.x % WARP == 0) sights[t] = s;
    }
    __syncthreads();
  }
  const auto next = [&](int t) {
    while (SEGMENTS && t < tiles && sights[t] == NONE) t++;
    return t;
  };
  // Tiles are loaded AHEAD of their use; the one a stage held before has been multiplied by all warps by then.
  int loading = next(0), loadingStage = 0;
  const i64 tileStride = i64(KEYS) * keyStride;
  i64 loadingAt = loading * tileStride;
  const auto loadNext = [&] {
    if (loading < tiles) {
      const int n0 = loading * KEYS;
      KeyTile::copy<THREADS>(keyTiles + loadingStage * KeyTile::SIZE, k + keyHead + loadingAt, keyStride, int(N) - n0);
      KeyTile::copy<THREADS>(valueTiles + loadingStage * KeyTile::SIZE, v + keyHead + loadingAt, keyStride, int(N) - n0);
      if (SEGMENTS && threadIdx.x < KEYS && n0 + threadIdx.x < N)
        copyAsync<4>(segmentTiles + loadingStage * KEYS + threadIdx.x, keySegments + b * N + n0 + threadIdx.x);
      const int following = next(loading + 1);
      loadingAt += (SEGMENTS ? following - loading : 1) * tileStride;
      loading = following;
      loadingStage = loadingStage + 1 == STAGES ? 0 : loadingStage + 1;
    }
    commitCopies();
  };

  unsigned qs[QueryTile::STEPS][4], douts[QueryTile::STEPS][4], left[KEYS / 16][4];
  float sums[PANELS][8][4] = {}, s[1][COLUMNS][4], ds[1][COLUMNS][4], additive[1][COLUMNS][4];
  const auto startScores = [&](int stage) {
    startProducts();
#pragma unroll
    for (int step = 0; step < QueryTile::STEPS; step++)
      multiplyGroup<0>(s[0], qs[step], KeyTile::rows(keyTiles + stage * KeyTile::SIZE, 0, step), step > 0, q);
    commitProducts();
#pragma unroll
    for (int step = 0; step < QueryTile::STEPS; step++)
      multiplyGroup<0>(ds[0], douts[step], KeyTile::rows(valueTiles + stage * KeyTile::SIZE, 0, step), step > 0, q);
    commitProducts();
  };
  const auto startSums = [&](int stage) {
#pragma unroll
    for (int j = 0; j < KEYS / 16; j++)
#pragma unroll
      for (int panel = 0; panel < PANELS; panel++)
        multiplyGroup<1>(sums[panel], left[j],
                         KeyTile::rightTransposed(keyTiles + stage * KeyTile::SIZE, 16 * j, panel), 1, q);
    commitProducts();
  };
  const auto share = [&](int tile, int stage) {
    queries.shares(s, additive, tile * KEYS, segmentTiles + stage * KEYS, SEGMENTS && sights[tile] == PARTLY);
    queries.readDense(additive, next(tile + 1) * KEYS);
  };
  const auto round = [&] {
#pragma unroll
    for (int j = 0; j < COLUMNS; j += 2) asLeft(left[j / 2], ds[0][j], ds[0][j + 1]);
  };

#pragma unroll
  for (int i = 0; i < AHEAD; i++) loadNext();
  if (int tile = next(0); tile < tiles) {
    queries.readDense(additive, tile * KEYS);
    waitTile<AHEAD - 1>();
#pragma unroll
    for (int step = 0; step < QueryTile::STEPS; step++) {
      QueryTile::left(qs[step], queryTile, own, step);
      QueryTile::left(douts[step], doutTile, own, step);
    }
    loadNext();
    startScores(0);
    waitProducts<1>();
    share(tile, 0);
    waitProducts<0>();
    queries.gradients(s, ds, tile * KEYS);
    round();
    int stage = 0;
    // The products with a tile's keys run beside the next tile's exponentials.
    for (tile = next(tile + 1); tile < tiles; tile = next(tile + 1)) {
      const int following = stage + 1 == STAGES ? 0 : stage + 1;
      waitTile<AHEAD - 1>();
      loadNext();
      startScores(following);
      startSums(stage);
      waitProducts<2>();
      share(tile, following);
      settle(s[0]);
      waitProducts<1>();
      queries.gradients(s, ds, tile * KEYS);
      settle(ds[0], p);
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
  for (int panel = 0; panel < PANELS; panel++) QueryTile::put(queryTile, own, panel, sums[panel], scale);
  QueryTile::write(queryTile, own, dq + queryHead, queryStride, m0 + own, M);
}
