// attention, CUDA, backward on tensor cores (sm_80 and newer): dk, dv and the bias's gradient of one block of keys.
// A warp holds the gradients of 16 keys in registers and walks over the queries. Contract and formulas: attention.ts.
#include "mma.cuh"
#include "tile.cuh"

// WARPS: of a block, 16 keys each. QUERIES: of a tile. BIAS_GRADIENT: 0, 1.
using R = Rows<HEAD_WIDTH>;
constexpr int THREADS = WARPS * WARP, OWN = 16, KEYS = WARPS * OWN;
constexpr int STRIP = 32, COLUMNS = STRIP / 8, MARGIN = OWN + STRIP;  // queries at once, of a tile
constexpr bool KEYS_IN_REGISTERS = R::WIDTH <= 64;
constexpr int TURNS = COLUMNS + 1, TURN_PITCH = 72;  // sums of diagonals: by distance of accumulators, of lanes
extern __shared__ __align__(16) unsigned char memory[];

/** Sums of ds along diagonals, of one warp. */
struct BiasGradient {
  float *sums, *row;  // [TURNS,TURN_PITCH] for the strip at hand, [P]
  int radius;
  float low = 0, high = 0;  // of this lane: beyond +-R

  DEVICE void add(const float (&ds)[COLUMNS][4], int relative, bool far) {
    if (far) {
      float all = 0;
#pragma unroll
      for (int j = 0; j < COLUMNS; j++) all += (ds[j][0] + ds[j][1]) + (ds[j][2] + ds[j][3]);
      if (relative < 0) low += all;
      else high += all;
      return;
    }
    // Accumulators 8 keys and 8 queries apart lie on the same diagonals: turn t holds those with key half i = j + t - 3.
    const int lane = threadIdx.x % WARP;
    __syncwarp();
#pragma unroll
    for (int t = 0; t < TURNS; t++) {
      float2 sum = {0, 0};
#pragma unroll
      for (int i = 0; i < 2; i++) {
        const int j = i - (t - (COLUMNS - 1));
        if (j < 0 || j >= COLUMNS) continue;
        sum.x += ds[j][2 * i];
        sum.y += ds[j][2 * i + 1];
      }
      *reinterpret_cast<float2 *>(sums + t * TURN_PITCH + 2 * lane) = sum;
    }
    __syncwarp();
#pragma unroll
    for (int x = 0; x < 2; x++) {
      const int diagonal = lane + x * WARP - (STRIP - 1);
      if (diagonal > OWN - 1) break;
      float sum = 0;
#pragma unroll
      for (int group = 0; group < 8; group++) {
        const int query = (group - diagonal) & 7, t = COLUMNS - 1 + ((diagonal - group + query) >> 3);
        if (t >= 0 && t < TURNS) sum += sums[t * TURN_PITCH + group * 8 + query];
      }
      const int at = relative + diagonal;
      if (at <= -radius) low += sum;
      else if (at >= radius) high += sum;
      else row[at + radius] += sum;
    }
  }
};

KERNEL __launch_bounds__(THREADS)
    attention_keys(PROBLEM_PARAMETERS, const T *dout, const RowStatistics *rows, T *dk, T *dv, float *partial) {
  const Problem p PROBLEM;
  const i64 n0 = i64(blockIdx.x) * KEYS, h = blockIdx.y, b = blockIdx.z;
  const int lane = threadIdx.x % WARP, warp = threadIdx.x / WARP, group = lane / 4, first = lane % 4 * 2;
  const int own = warp * OWN;
  const i64 nWarp = n0 + own, stride = H * HEAD_WIDTH;
  const i64 queryHead = (b * M * H + h) * HEAD_WIDTH, keyHead = (b * N * H + h) * HEAD_WIDTH;

  T *keyTile = reinterpret_cast<T *>(memory), *valueTile = keyTile + KEYS * R::PITCH;
  T *queryTiles = valueTile + KEYS * R::PITCH, *doutTiles = queryTiles + 2 * QUERIES * R::PITCH;
  RowStatistics *rowTiles = reinterpret_cast<RowStatistics *>(doutTiles + 2 * QUERIES * R::PITCH);
  int *segmentTiles = reinterpret_cast<int *>(rowTiles + 2 * QUERIES);
  float *diagonals = reinterpret_cast<float *>(segmentTiles + (SEGMENTS == 2 ? 2 * QUERIES : 0));
  float *biasRows = diagonals + (BIAS_GRADIENT ? WARPS * TURNS * TURN_PITCH : 0);
  float *biasShared = biasRows + (BIAS_GRADIENT ? WARPS * P : 0);
  unsigned char *sights = reinterpret_cast<unsigned char *>(biasShared + (BIAS == 1 ? P + 2 * MARGIN : 0));

  const int tiles = int((M + QUERIES - 1) / QUERIES);
  const int firstTile = CAUSAL ? int(max(i64(0), n0 - queryOffset) / QUERIES) : 0;
  R::copy<KEYS, THREADS>(keyTile, k + keyHead, stride, n0, N);
  R::copy<KEYS, THREADS>(valueTile, v + keyHead, stride, n0, N);
  const BiasRow row(p, h, biasShared, MARGIN);
  BiasGradient gradient{diagonals + warp * TURNS * TURN_PITCH, biasRows + warp * P, row.radius};
  if (BIAS_GRADIENT)
    for (int i = lane; i < P; i += WARP) gradient.row[i] = 0;
  int keySegment[2];
  if (SEGMENTS) {
    const Range keys = segmentRange<KEYS>(keySegments + b * N, n0, N);
    for (int t = warp; t < tiles; t += WARPS) {
      const Range queries = SEGMENTS == 2 ? segmentRange<QUERIES>(querySegments + b * M, i64(t) * QUERIES, M) : Range{};
      const unsigned char s = sight(queries, keys);
      if (lane == 0) sights[t] = s;
    }
#pragma unroll
    for (int i = 0; i < 2; i++) {
      const i64 n = nWarp + 8 * i + group;
      keySegment[i] = n < N ? keySegments[b * N + n] : -1;
    }
  }
  __syncthreads();
  const auto next = [&](int t) {
    while (SEGMENTS && t < tiles && sights[t] == NONE) t++;
    return t;
  };
  const auto start = [&](int t, int stage) {
    const i64 m0 = i64(t) * QUERIES;
    R::copy<QUERIES, THREADS>(queryTiles + stage * QUERIES * R::PITCH, q + queryHead, stride, m0, M);
    R::copy<QUERIES, THREADS>(doutTiles + stage * QUERIES * R::PITCH, dout + queryHead, stride, m0, M);
    if (threadIdx.x < QUERIES) {
      copyAsync<8>(rowTiles + stage * QUERIES + threadIdx.x, rows + (b * H + h) * paddedRows(M) + m0 + threadIdx.x);
      if (SEGMENTS == 2 && m0 + threadIdx.x < M)
        copyAsync<4>(segmentTiles + stage * QUERIES + threadIdx.x, querySegments + b * M + m0 + threadIdx.x);
    }
  };

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
    const i64 m0 = i64(tile) * QUERIES;
    const bool partly = (SEGMENTS && sights[tile] == PARTLY) || nWarp + OWN > N;
    tile = following;
    const T *queryTile = queryTiles + stage * QUERIES * R::PITCH, *doutTile = doutTiles + stage * QUERIES * R::PITCH;

#pragma unroll 1
    for (int strip = 0; strip < QUERIES; strip += STRIP) {
      const int relative = int(nWarp - m0 - strip - queryOffset);  // of the warp's first key and the strip's first query
      if (CAUSAL && relative > STRIP - 1) continue;
      float s[COLUMNS][4] = {}, ds[COLUMNS][4] = {};
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

      float factor = scale * LOG2E, shift = 0;
      const bool far = !BIAS || relative + OWN - 1 <= -row.radius || relative - (STRIP - 1) >= row.radius;
      if (BIAS && far) shift = relative < 0 ? row.low : row.high;
      const bool masked = partly || (CAUSAL && relative + OWN - 1 > 0);
      if (!far || DENSE || masked) {
        if (BIAS && !far) {
#pragma unroll
          for (int u = 1 - COLUMNS; u < 2; u++) {  // key halves 8 u further than accumulators of queries
            const float x = row.at(relative + 8 * u + group - first), y = row.at(relative + 8 * u + group - first - 1);
#pragma unroll
            for (int i = 0; i < 2; i++) {
              const int j = i - u;
              if (j < 0 || j >= COLUMNS) continue;
              s[j][2 * i] = s[j][2 * i] * factor + x;
              s[j][2 * i + 1] = s[j][2 * i + 1] * factor + y;
            }
          }
        } else {
#pragma unroll
          for (int j = 0; j < COLUMNS; j++)
#pragma unroll
            for (int x = 0; x < 4; x++) s[j][x] = s[j][x] * factor + shift;
        }
        factor = 1;
        shift = 0;
        if (DENSE || masked) {
#pragma unroll
          for (int j = 0; j < COLUMNS; j++)
#pragma unroll
            for (int e = 0; e < 2; e++) {
              const int query = strip + 8 * j + first + e;
              const i64 m = m0 + query;
              const int segment = SEGMENTS == 2 ? segmentTiles[stage * QUERIES + query] : 0;
#pragma unroll
              for (int i = 0; i < 2; i++) {
                const i64 n = nWarp + 8 * i + group;
                float &x = s[j][2 * i + e];
                if (DENSE && m < M && n < N) x += dense[p.densePlane(b, h) + m * N + n] * LOG2E;
                bool sees = n < N;
                if (CAUSAL) sees = sees && relative + 8 * i + group <= 8 * j + first + e;
                if (SEGMENTS) sees = sees && keySegment[i] >= 0;
                if (SEGMENTS == 2) sees = sees && segment == keySegment[i];
                if (masked && !sees) x = -infinity();
              }
            }
        }
      }
#pragma unroll
      for (int j = 0; j < COLUMNS; j++) {
        const float4 two = *reinterpret_cast<const float4 *>(rowTiles + stage * QUERIES + strip + 8 * j + first);
#pragma unroll
        for (int x = 0; x < 4; x++) {
          const float share = exponential2(s[j][x] * factor + (shift - (x % 2 ? two.z : two.x)));
          float kept = 1;
          if (DROPOUT) {
            const i64 m = m0 + strip + 8 * j + first + x % 2, n = nWarp + 8 * (x / 2) + group;
            kept = p.factor(b, h, m, n);
          }
          ds[j][x] = share * (kept * ds[j][x] - (x % 2 ? two.w : two.y));
          s[j][x] = share * kept;
        }
      }
      if (BIAS_GRADIENT) gradient.add(ds, relative, far);
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
  R::put(keyTile, own, dkSums, scale, scale);
  R::put(valueTile, own, dvSums, 1, 1);
  R::write<OWN>(keyTile + own * R::PITCH, dk + keyHead, stride, nWarp, N);
  R::write<OWN>(valueTile + own * R::PITCH, dv + keyHead, stride, nWarp, N);
  if (!BIAS_GRADIENT) return;
  const float low = acrossLanes<Sum>(gradient.low), high = acrossLanes<Sum>(gradient.high);
  if (lane == 0) {
    gradient.row[0] += low;
    gradient.row[P - 1] += high;
  }
  __syncthreads();
  float *to = partial + ((b * H + h) * gridDim.x + blockIdx.x) * P;
  for (int i = threadIdx.x; i < P; i += THREADS) {
    float sum = 0;
#pragma unroll
    for (int w = 0; w < WARPS; w++) sum += biasRows[w * P + i];
    to[i] = sum;
  }
}
