// attention, CUDA, forward on tensor cores (sm_80 and newer). Contract, formulas and source: attention.ts.
#include "mma.cuh"
#include "softmax.cuh"

// ROW_TILES: groups of 16 queries of a warp. KEYS: keys of a tile.
using R = Rows<HEAD_WIDTH>;
constexpr int WARPS = 4, THREADS = WARPS * WARP, OWN = 16 * ROW_TILES, QUERIES = WARPS * OWN;
constexpr int COLUMNS = KEYS / 8, MARGIN = OWN + KEYS;
constexpr bool QUERIES_IN_REGISTERS = R::WIDTH <= 64;
extern __shared__ __align__(16) unsigned char memory[];

KERNEL __launch_bounds__(THREADS) attention_forward(PROBLEM_PARAMETERS, T *out, float *lse) {
  const Problem p PROBLEM;
  // The longest rows of a causal problem come first.
  const i64 m0 = i64(CAUSAL ? gridDim.x - 1 - blockIdx.x : blockIdx.x) * QUERIES, h = blockIdx.y, b = blockIdx.z;
  const int own = threadIdx.x / WARP * OWN;
  const int mWarp = int(m0) + own, stride = int(H) * HEAD_WIDTH, queryStride = stride * QUERY_PARTS, keyStride = stride * KEY_PARTS;
  const i64 keyHead = b * N * keyStride + h * HEAD_WIDTH;
  const T *keys = k + keyHead, *values = v + keyHead;

  T *queryTile = reinterpret_cast<T *>(memory), *keyTiles = queryTile + QUERIES * R::PITCH;
  T *valueTiles = keyTiles + 2 * KEYS * R::PITCH;
  int *segmentTiles = reinterpret_cast<int *>(valueTiles + 2 * KEYS * R::PITCH);
  float *biasShared = reinterpret_cast<float *>(segmentTiles + (SEGMENTS ? 2 * KEYS : 0));
  unsigned char *sights = reinterpret_cast<unsigned char *>(biasShared + (BIAS == 1 ? P + 2 * MARGIN : 0));

  const i64 seen = CAUSAL ? min(N, m0 + QUERIES + queryOffset) : N;
  const int tiles = seen <= 0 ? 0 : int((seen + KEYS - 1) / KEYS);
  R::copy<QUERIES, THREADS>(queryTile, q + b * M * queryStride + h * HEAD_WIDTH + m0 * queryStride, queryStride, int(M - m0));
  const BiasRow row(p, h, biasShared, MARGIN);
  if (SEGMENTS) {
    const Range queries = SEGMENTS == 2 ? segmentRange<QUERIES>(querySegments + b * M, m0, M) : Range{};
    for (int t = threadIdx.x / WARP; t < tiles; t += WARPS) {
      const unsigned char s = sight(queries, segmentRange<KEYS>(keySegments + b * N, i64(t) * KEYS, N));
      if (threadIdx.x % WARP == 0) sights[t] = s;
    }
  }
  __syncthreads();
  const auto next = [&](int t) {
    while (SEGMENTS && t < tiles && sights[t] == NONE) t++;
    return t;
  };
  const auto start = [&](int t, int stage) {
    const i64 n0 = i64(t) * KEYS;
    R::copy<KEYS, THREADS>(keyTiles + stage * KEYS * R::PITCH, keys + n0 * keyStride, keyStride, int(N - n0));
    R::copy<KEYS, THREADS>(valueTiles + stage * KEYS * R::PITCH, values + n0 * keyStride, keyStride, int(N - n0));
    if (SEGMENTS && threadIdx.x < KEYS && n0 + threadIdx.x < N)
      copyAsync<4>(segmentTiles + stage * KEYS + threadIdx.x, keySegments + b * N + n0 + threadIdx.x);
  };

  unsigned qs[ROW_TILES][QUERIES_IN_REGISTERS ? R::STEPS : 1][4];
  float sums[ROW_TILES][2 * R::STEPS][4] = {};
  Softmax<ROW_TILES, COLUMNS, 2 * R::STEPS> softmax(p, row, b, h, mWarp);
  int tile = next(0), stage = 0;
  if (tile < tiles) start(tile, stage);
  commitCopies();
  for (bool fresh = true; tile < tiles; fresh = false, stage ^= 1) {
    waitCopies<0>();
    __syncthreads();
    if (QUERIES_IN_REGISTERS && fresh)
#pragma unroll
      for (int i = 0; i < ROW_TILES; i++)
#pragma unroll
        for (int step = 0; step < R::STEPS; step++) R::left(qs[i][step], queryTile, own + 16 * i, step);
    const int following = next(tile + 1);
    if (following < tiles) start(following, stage ^ 1);
    commitCopies();
    const int n0 = tile * KEYS;
    const bool partly = SEGMENTS && sights[tile] == PARTLY;
    tile = following;
    if (softmax.hidden(n0)) continue;
    const T *keyTile = keyTiles + stage * KEYS * R::PITCH, *valueTile = valueTiles + stage * KEYS * R::PITCH;

    float s[ROW_TILES][COLUMNS][4] = {}, additive[ROW_TILES][COLUMNS][4];
    softmax.readDense(additive, n0);
#pragma unroll
    for (int step = 0; step < R::STEPS; step++) {
      unsigned a[ROW_TILES][4];
#pragma unroll
      for (int i = 0; i < ROW_TILES; i++)
        if (!QUERIES_IN_REGISTERS) R::left(a[i], queryTile, own + 16 * i, step);
#pragma unroll
      for (int j = 0; j < COLUMNS; j += 2) {
        unsigned right[4];
        R::right(right, keyTile, 8 * j, step);
#pragma unroll
        for (int i = 0; i < ROW_TILES; i++) {
          const unsigned(&left)[4] = QUERIES_IN_REGISTERS ? qs[i][step] : a[i];
          multiply(s[i][j], left, right[0], right[1], q);
          multiply(s[i][j + 1], left, right[2], right[3], q);
        }
      }
    }

    softmax.shares(s, additive, n0, segmentTiles + stage * KEYS, partly);
    softmax.rescale<false>(sums);
#pragma unroll
    for (int j = 0; j < COLUMNS; j += 2) {
      unsigned left[ROW_TILES][4];
#pragma unroll
      for (int i = 0; i < ROW_TILES; i++) asLeft(left[i], s[i][j], s[i][j + 1]);
#pragma unroll
      for (int step = 0; step < R::STEPS; step++) {
        unsigned right[4];
        R::rightTransposed(right, valueTile, 8 * j, step);
#pragma unroll
        for (int i = 0; i < ROW_TILES; i++) {
          multiply(sums[i][2 * step], left[i], right[0], right[1], q);
          multiply(sums[i][2 * step + 1], left[i], right[2], right[3], q);
        }
      }
    }
  }
  waitCopies<0>();
  __syncthreads();

  softmax.divide(sums, lse);
#pragma unroll
  for (int i = 0; i < ROW_TILES; i++) R::put(queryTile, own + 16 * i, sums[i], 1);
  R::write<OWN>(queryTile + own * R::PITCH, out + (b * M * H + h) * HEAD_WIDTH, stride, mWarp, M);
}
