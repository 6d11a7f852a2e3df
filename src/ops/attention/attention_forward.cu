// attention, CUDA, forward on tensor cores (sm_80 and newer). Contract, formulas and source: attention.ts.
#include "mma.cuh"
#include "tile.cuh"

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
  const int lane = threadIdx.x % WARP, group = lane / 4, first = lane % 4 * 2, own = threadIdx.x / WARP * OWN;
  const i64 mWarp = m0 + own, stride = H * HEAD_WIDTH;
  const T *keys = k + (b * N * H + h) * HEAD_WIDTH, *values = v + (b * N * H + h) * HEAD_WIDTH;

  T *queryTile = reinterpret_cast<T *>(memory), *keyTiles = queryTile + QUERIES * R::PITCH;
  T *valueTiles = keyTiles + 2 * KEYS * R::PITCH;
  int *segmentTiles = reinterpret_cast<int *>(valueTiles + 2 * KEYS * R::PITCH);
  float *biasShared = reinterpret_cast<float *>(segmentTiles + (SEGMENTS ? 2 * KEYS : 0));
  unsigned char *sights = reinterpret_cast<unsigned char *>(biasShared + (BIAS == 1 ? P + 2 * MARGIN : 0));

  const i64 seen = CAUSAL ? min(N, m0 + QUERIES + queryOffset) : N;
  const int tiles = seen <= 0 ? 0 : int((seen + KEYS - 1) / KEYS);
  R::copy<QUERIES, THREADS>(queryTile, q + (b * M * H + h) * HEAD_WIDTH, stride, m0, M);
  const BiasRow row(p, h, biasShared, MARGIN);
  int querySegment[ROW_TILES][2];
  if (SEGMENTS) {
    const Range queries = SEGMENTS == 2 ? segmentRange<QUERIES>(querySegments + b * M, m0, M) : Range{};
    for (int t = threadIdx.x / WARP; t < tiles; t += WARPS) {
      const unsigned char s = sight(queries, segmentRange<KEYS>(keySegments + b * N, i64(t) * KEYS, N));
      if (lane == 0) sights[t] = s;
    }
    if (SEGMENTS == 2)
#pragma unroll
      for (int i = 0; i < 2 * ROW_TILES; i++) {
        const i64 m = mWarp + 8 * i + group;
        querySegment[i / 2][i % 2] = m < M ? querySegments[b * M + m] : -1;
      }
  }
  __syncthreads();
  const auto next = [&](int t) {
    while (SEGMENTS && t < tiles && sights[t] == NONE) t++;
    return t;
  };
  const auto start = [&](int t, int stage) {
    const i64 n0 = i64(t) * KEYS;
    R::copy<KEYS, THREADS>(keyTiles + stage * KEYS * R::PITCH, keys, stride, n0, N);
    R::copy<KEYS, THREADS>(valueTiles + stage * KEYS * R::PITCH, values, stride, n0, N);
    if (SEGMENTS && threadIdx.x < KEYS && n0 + threadIdx.x < N)
      copyAsync<4>(segmentTiles + stage * KEYS + threadIdx.x, keySegments + b * N + n0 + threadIdx.x);
  };

  unsigned qs[ROW_TILES][QUERIES_IN_REGISTERS ? R::STEPS : 1][4];
  float sums[ROW_TILES][2 * R::STEPS][4] = {}, top[ROW_TILES][2], total[ROW_TILES][2] = {};
#pragma unroll
  for (int i = 0; i < 2 * ROW_TILES; i++) top[i / 2][i % 2] = -infinity();

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
    const i64 n0 = i64(tile) * KEYS;
    const bool partly = SEGMENTS && sights[tile] == PARTLY;
    tile = following;
    if (CAUSAL && n0 > mWarp + OWN - 1 + queryOffset) continue;
    const T *keyTile = keyTiles + stage * KEYS * R::PITCH, *valueTile = valueTiles + stage * KEYS * R::PITCH;

    float s[ROW_TILES][COLUMNS][4] = {};
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

    // Scores are s factor + shift from here on: far from the diagonal the bias is one number.
    float factor = scale * LOG2E, shift = 0;
    const i64 relative = n0 - mWarp - queryOffset;  // of the warp's first query and key
    const bool far = !BIAS || relative + KEYS - 1 <= -row.radius || relative - (OWN - 1) >= row.radius;
    const bool masked = partly || n0 + KEYS > N || (CAUSAL && n0 + KEYS - 1 > mWarp + queryOffset);
    if (BIAS && far) shift = relative < 0 ? row.low : row.high;
    if (!far || DENSE || masked) {
      if (BIAS && !far) {
#pragma unroll
        for (int u = 1 - 2 * ROW_TILES; u < COLUMNS; u++) {  // accumulators 8 u to the right of their rows
          const float x = row.at(int(relative) + 8 * u + first - group), y = row.at(int(relative) + 8 * u + first - group + 1);
#pragma unroll
          for (int i = 0; i < 2 * ROW_TILES; i++) {
            const int j = u + i;
            if (j < 0 || j >= COLUMNS) continue;
            s[i / 2][j][i % 2 * 2] = s[i / 2][j][i % 2 * 2] * factor + x;
            s[i / 2][j][i % 2 * 2 + 1] = s[i / 2][j][i % 2 * 2 + 1] * factor + y;
          }
        }
      } else {
#pragma unroll
        for (int i = 0; i < ROW_TILES; i++)
#pragma unroll
          for (int j = 0; j < COLUMNS; j++)
#pragma unroll
            for (int x = 0; x < 4; x++) s[i][j][x] = s[i][j][x] * factor + shift;
      }
      factor = 1;
      shift = 0;
      if (DENSE) {
        const bool pairs = N % 2 == 0;
#pragma unroll
        for (int i = 0; i < 2 * ROW_TILES; i++) {
          const i64 m = mWarp + 8 * i + group;
          if (m >= M) continue;
          const float *from = dense + p.densePlane(b, h) + m * N + n0 + first;
#pragma unroll
          for (int j = 0; j < COLUMNS; j++) {
            float2 x = {0, 0};
            if (n0 + 8 * j + first + 1 < N && pairs) x = *reinterpret_cast<const float2 *>(from + 8 * j);
            else {
              if (n0 + 8 * j + first < N) x.x = from[8 * j];
              if (n0 + 8 * j + first + 1 < N) x.y = from[8 * j + 1];
            }
            s[i / 2][j][i % 2 * 2] += x.x * LOG2E;
            s[i / 2][j][i % 2 * 2 + 1] += x.y * LOG2E;
          }
        }
      }
      if (masked) {
        const int *segments = segmentTiles + stage * KEYS;
        const int end = int(min(N - n0, i64(KEYS)));
#pragma unroll
        for (int j = 0; j < COLUMNS; j++)
#pragma unroll
          for (int e = 0; e < 2; e++) {
            const int n = 8 * j + first + e, segment = SEGMENTS ? segments[n] : 0;
#pragma unroll
            for (int i = 0; i < 2 * ROW_TILES; i++) {
              bool sees = n < end;
              if (CAUSAL) sees = sees && relative + n <= 8 * i + group;
              if (SEGMENTS) sees = sees && segment >= 0;
              if (SEGMENTS == 2) sees = sees && segment == querySegment[i / 2][i % 2];
              if (!sees) s[i / 2][j][i % 2 * 2 + e] = -infinity();
            }
          }
      }
    }

#pragma unroll
    for (int i = 0; i < 2 * ROW_TILES; i++) {
      float most = -infinity();
#pragma unroll
      for (int j = 0; j < COLUMNS; j++) most = fmaxf(most, fmaxf(s[i / 2][j][i % 2 * 2], s[i / 2][j][i % 2 * 2 + 1]));
      most = fmaxf(most, __shfl_xor_sync(ALL_LANES, most, 1));
      most = fmaxf(most, __shfl_xor_sync(ALL_LANES, most, 2));
      most = fmaxf(most * factor + shift, top[i / 2][i % 2]);
      const float from = most == -infinity() ? 0 : most, offset = shift - from;
      const float shrink = exponential2(top[i / 2][i % 2] - from);
      top[i / 2][i % 2] = most;
      float sum = 0;
#pragma unroll
      for (int j = 0; j < COLUMNS; j++)
#pragma unroll
        for (int e = 0; e < 2; e++) {
          float &x = s[i / 2][j][i % 2 * 2 + e];
          x = exponential2(x * factor + offset);
          sum += x;
        }
      total[i / 2][i % 2] = total[i / 2][i % 2] * shrink + sum;
#pragma unroll
      for (int j = 0; j < 2 * R::STEPS; j++) {
        sums[i / 2][j][i % 2 * 2] *= shrink;
        sums[i / 2][j][i % 2 * 2 + 1] *= shrink;
      }
      if (DROPOUT)
#pragma unroll
        for (int j = 0; j < COLUMNS; j++) {
          const float2 kept = p.factors(b, h, mWarp + 8 * i + group, n0 + 8 * j + first);
          s[i / 2][j][i % 2 * 2] *= kept.x;
          s[i / 2][j][i % 2 * 2 + 1] *= kept.y;
        }
    }
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

#pragma unroll
  for (int i = 0; i < ROW_TILES; i++) {
    float share[2];
#pragma unroll
    for (int half = 0; half < 2; half++) {
      const float all = acrossLanes<Sum, 4>(total[i][half]);
      const bool any = all > 0 || all != all;
      const i64 m = mWarp + 16 * i + 8 * half + group;
      share[half] = any ? 1 / all : 0;
      if (lane % 4 == 0 && m < M) lse[(b * H + h) * M + m] = any ? (top[i][half] + log2f(all)) * LN2 : -infinity();
    }
    R::put(queryTile, own + 16 * i, sums[i], share[0], share[1]);
  }
  R::write<OWN>(queryTile + own * R::PITCH, out + (b * M * H + h) * HEAD_WIDTH, stride, mWarp, M);
}
