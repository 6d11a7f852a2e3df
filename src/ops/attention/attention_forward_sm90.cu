// attention, CUDA, forward on Hopper's tensor cores (sm_90a). Contract, formulas and source: attention.ts.
// Each warpgroup has 64 queries. Several blocks share a multiprocessor: while one takes exponentials, another multiplies.
#include "softmax.cuh"
#include "wgmma.cuh"

// GROUPS: warpgroups of a block. KEYS: of a tile, 64 or 128. STAGES: tiles of keys and values in shared memory.
// BLOCKS: of a multiprocessor. AGAIN: 1 for those queries only that attention_stream_sm90.cu lost.
constexpr int THREADS = GROUPS * WARPGROUP, QUERIES = 64 * GROUPS, AHEAD = STAGES - 2;
constexpr bool QUERIES_IN_REGISTERS = KEYS == 64;
constexpr int COLUMNS = KEYS / 8, PANELS = HEAD_WIDTH / PANEL, MARGIN = 16 + KEYS;
using QueryTile = Panels<HEAD_WIDTH, QUERIES>;
using KeyTile = Panels<HEAD_WIDTH, KEYS>;
extern __shared__ __align__(1024) unsigned char memory[];

KERNEL __launch_bounds__(THREADS, BLOCKS)
    attention_forward_sm90(PROBLEM_PARAMETERS, T *out, float *lse
#if AGAIN
                           ,
                           const int *lost
#endif
    ) {
  const Problem p PROBLEM;
  // The longest rows of a causal problem come first.
  const i64 m0 = i64(CAUSAL ? gridDim.x - 1 - blockIdx.x : blockIdx.x) * QUERIES, h = blockIdx.y, b = blockIdx.z;
  const int own = threadIdx.x / WARP * 16;
#if AGAIN
  const int warps = GROUPS * 4, part = threadIdx.x;
  const bool wanted = part < warps && m0 + part / 4 * 64 < M && lost[((b * H + h) * gridDim.x + m0 / QUERIES) * warps + part];
  if (!__syncthreads_or(wanted)) return;
#endif
  const int stride = int(H) * HEAD_WIDTH, queryStride = stride * QUERY_PARTS, keyStride = stride * KEY_PARTS;
  const i64 keyHead = b * N * keyStride + h * HEAD_WIDTH;
  const T *keys = k + keyHead, *values = v + keyHead;

  T *queryTile = reinterpret_cast<T *>(memory), *keyTiles = queryTile + QueryTile::SIZE;
  T *valueTiles = keyTiles + STAGES * KeyTile::SIZE;
  int *segmentTiles = reinterpret_cast<int *>(valueTiles + STAGES * KeyTile::SIZE);
  float *biasShared = reinterpret_cast<float *>(segmentTiles + (SEGMENTS ? STAGES * KEYS : 0));
  unsigned char *sights = reinterpret_cast<unsigned char *>(biasShared + (BIAS == 1 ? P + 2 * MARGIN : 0));

  const i64 seen = CAUSAL ? min(N, m0 + QUERIES + queryOffset) : N;
  const int tiles = seen <= 0 ? 0 : int((seen + KEYS - 1) / KEYS);
  QueryTile::copy<THREADS>(queryTile, q + b * M * queryStride + h * HEAD_WIDTH + m0 * queryStride, queryStride, int(M - m0));
  const BiasRow row(p, h, biasShared, MARGIN);
  if (SEGMENTS) {
    const Range queries = SEGMENTS == 2 ? segmentRange<QUERIES>(querySegments + b * M, m0, M) : Range{};
    for (int t = threadIdx.x / WARP; t < tiles; t += THREADS / WARP) {
      const unsigned char s = sight(queries, segmentRange<KEYS>(keySegments + b * N, i64(t) * KEYS, N));
      if (threadIdx.x % WARP == 0) sights[t] = s;
    }
    __syncthreads();
  }
  const auto next = [&](int t) {
    while (SEGMENTS && t < tiles && sights[t] == NONE) t++;
    return t;
  };
  // Tiles are loaded AHEAD of their use; the one a stage held before has been multiplied by all warps by then.
  int loading = 0, loadingStage = 0;
  const i64 tileStride = i64(KEYS) * keyStride;
  i64 loadingAt = 0;
  const auto loadNext = [&] {
    if (loading < tiles) {
      const int n0 = loading * KEYS;
      KeyTile::copy<THREADS>(keyTiles + loadingStage * KeyTile::SIZE, keys + loadingAt, keyStride, int(N) - n0);
      KeyTile::copy<THREADS>(valueTiles + loadingStage * KeyTile::SIZE, values + loadingAt, keyStride, int(N) - n0);
      if (SEGMENTS && threadIdx.x < KEYS && n0 + threadIdx.x < N)
        copyAsync<4>(segmentTiles + loadingStage * KEYS + threadIdx.x, keySegments + b * N + n0 + threadIdx.x);
      const int following = next(loading + 1);
      loadingAt += (SEGMENTS ? following - loading : 1) * tileStride;
      loading = following;
      loadingStage = loadingStage + 1 == STAGES ? 0 : loadingStage + 1;
    }
    commitCopies();
  };

  Softmax<1, COLUMNS, 8 * PANELS> softmax(p, row, b, h, m0 + own);
  unsigned qs[QUERIES_IN_REGISTERS ? QueryTile::STEPS : 1][4], left[KEYS / 16][4];
  float sums[1][8 * PANELS][4], s[1][COLUMNS][4], additive[1][COLUMNS][4];
  const auto startScores = [&](int stage) {
    startProducts();
#pragma unroll
    for (int step = 0; step < QueryTile::STEPS; step++) {
      const unsigned long long right = KeyTile::rows(keyTiles + stage * KeyTile::SIZE, 0, step);
      if constexpr (QUERIES_IN_REGISTERS) multiplyGroup<0>(reinterpret_cast<float(&)[8][4]>(s[0]), qs[step], right, step > 0, q);
      else multiplyShared(reinterpret_cast<float(&)[16][4]>(s[0]), QueryTile::rows(queryTile, own / 64 * 64, step), right, step > 0, q);
    }
    commitProducts();
  };
  const auto startSums = [&](int stage) {
#pragma unroll
    for (int j = 0; j < KEYS / 16; j++)
#pragma unroll
      for (int panel = 0; panel < PANELS; panel++)
        multiplyGroup<1>(reinterpret_cast<float(&)[8][4]>(sums[0][8 * panel]), left[j],
                         KeyTile::rightTransposed(valueTiles + stage * KeyTile::SIZE, 16 * j, panel), 1, q);
    commitProducts();
  };
  const auto share = [&](int tile, int stage) {
    softmax.shares(s, additive, tile * KEYS, segmentTiles + stage * KEYS, SEGMENTS && sights[tile] == PARTLY);
    softmax.readDense(additive, next(tile + 1) * KEYS);
  };
  const auto round = [&] {
#pragma unroll
    for (int j = 0; j < COLUMNS; j += 2) asLeft(left[j / 2], s[0][j], s[0][j + 1]);
  };

  for (softmax.everyTile = AGAIN || !REACHES_FAR<T>;; softmax.everyTile = true) {
    softmax.move(b, h, int(m0) + own);
    loading = next(0);
    loadingStage = 0;
    loadingAt = loading * tileStride;
#pragma unroll
    for (int j = 0; j < 8 * PANELS; j++)
#pragma unroll
      for (int x = 0; x < 4; x++) sums[0][j][x] = 0;
#pragma unroll
    for (int i = 0; i < AHEAD; i++) loadNext();
    if (GROUPS > 1 && m0 + own / 64 * 64 >= M)  // a warpgroup without queries copies only
      for (int tile = next(0); tile < tiles; tile = next(tile + 1)) {
        waitTile<AHEAD - 1>();
        loadNext();
      }
    else if (int tile = next(0); tile < tiles) {
      softmax.readDense(additive, tile * KEYS);
      waitTile<AHEAD - 1>();
      if constexpr (QUERIES_IN_REGISTERS)
#pragma unroll
        for (int step = 0; step < QueryTile::STEPS; step++) QueryTile::left(qs[step], queryTile, own, step);
      loadNext();
      startScores(0);
      waitProducts<0>();
      share(tile, 0);
      round();
      int stage = 0;
      // The products with a tile's values run beside the next tile's exponentials.
      for (tile = next(tile + 1); tile < tiles; tile = next(tile + 1)) {
        const int following = stage + 1 == STAGES ? 0 : stage + 1;
        waitTile<AHEAD - 1>();
        loadNext();
        startScores(following);
        startSums(stage);
        waitProducts<1>();
        share(tile, following);
        settle(s[0], p);
        waitProducts<0>();
        softmax.rescale<true>(sums);
        round();
        stage = following;
      }
      startProducts();
      startSums(stage);
      waitProducts<0>();
    }
    waitCopies<0>();
    if (AGAIN || !REACHES_FAR<T>) {
      __syncthreads();
      break;
    }
    if (!__syncthreads_or(!softmax.everyTile && softmax.lost())) break;
  }

  softmax.divide(sums, lse);
#pragma unroll
  for (int panel = 0; panel < PANELS; panel++)
    QueryTile::put(queryTile, own, panel, reinterpret_cast<float(&)[8][4]>(sums[0][8 * panel]), 1);
  QueryTile::write(queryTile, own, out + (b * M * H + h) * HEAD_WIDTH, stride, m0 + own, M);
}
