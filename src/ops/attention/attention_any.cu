// attention, CUDA, for every type, head width and option: tiles in float32, products by FMA. Contract: attention.ts.
// The faster kernels beside it take what tensor cores can; this one takes the rest.
#include "problem.cuh"

// TILE: queries and keys of a tile, 16 or 32. HEAD_WIDTH: D. BIAS_GRADIENT: 0, 1.
constexpr int SIDE = 16, THREADS = SIDE * SIDE, EACH = TILE / SIDE;
constexpr int PARTS = (HEAD_WIDTH + 63) / 64, WIDTH = 64 * PARTS, PITCH = WIDTH + 4, SCORE_PITCH = TILE + 1;
constexpr int VALUES = TILE * PITCH, SCORES = TILE * SCORE_PITCH;  // floats of a tile of rows, of scores
extern __shared__ __align__(16) float memory[];

using Scores = float[EACH][EACH];     // queries ty + 16 i, keys tx + 16 j
using Sums = float[EACH][PARTS][4];  // rows ty + 16 i, columns 64 c + 4 tx + x

DEVICE int tx() { return threadIdx.x % SIDE; }
DEVICE int ty() { return threadIdx.x / SIDE; }

/** Rows [first, first + TILE) of a head as floats, zeros outside. */
DEVICE void read(const T *from, i64 stride, i64 first, i64 count, float *to) {
  for (int i = threadIdx.x; i < TILE * WIDTH; i += THREADS) {
    const int row = i / WIDTH, column = i % WIDTH;
    to[row * PITCH + column] =
        first + row < count && column < HEAD_WIDTH ? float(from[(first + row) * stride + column]) : 0.0f;
  }
}

DEVICE void write(const Sums &sums, float factor, T *to, i64 stride, i64 first, i64 count) {
#pragma unroll
  for (int i = 0; i < EACH; i++)
#pragma unroll
    for (int c = 0; c < PARTS; c++)
#pragma unroll
      for (int x = 0; x < 4; x++) {
        const i64 row = first + ty() + SIDE * i;
        const int column = 64 * c + 4 * tx() + x;
        if (row < count && column < HEAD_WIDTH) to[row * stride + column] = T(sums[i][c][x] * factor);
      }
}

/** Products of rows of a and rows of b. */
DEVICE void dots(const float *a, const float *b, Scores &s) {
#pragma unroll
  for (int i = 0; i < EACH; i++)
#pragma unroll
    for (int j = 0; j < EACH; j++) s[i][j] = 0;
#pragma unroll 4
  for (int d = 0; d < WIDTH; d += 4) {
    float4 x[EACH], y[EACH];
#pragma unroll
    for (int i = 0; i < EACH; i++) {
      x[i] = *reinterpret_cast<const float4 *>(a + (ty() + SIDE * i) * PITCH + d);
      y[i] = *reinterpret_cast<const float4 *>(b + (tx() + SIDE * i) * PITCH + d);
    }
#pragma unroll
    for (int i = 0; i < EACH; i++)
#pragma unroll
      for (int j = 0; j < EACH; j++)
        s[i][j] += x[i].x * y[j].x + x[i].y * y[j].y + x[i].z * y[j].z + x[i].w * y[j].w;
  }
}

/** sums[row] += sum over t of weights[row,t] values[t], weights[row,t] at row * rowStep + t * step. */
DEVICE void accumulate(Sums &sums, const float *weights, int rowStep, int step, const float *values) {
#pragma unroll 4
  for (int t = 0; t < TILE; t++) {
    float w[EACH];
#pragma unroll
    for (int i = 0; i < EACH; i++) w[i] = weights[(ty() + SIDE * i) * rowStep + t * step];
#pragma unroll
    for (int c = 0; c < PARTS; c++) {
      const float4 x = *reinterpret_cast<const float4 *>(values + t * PITCH + 64 * c + 4 * tx());
#pragma unroll
      for (int i = 0; i < EACH; i++) {
        sums[i][c][0] += w[i] * x.x;
        sums[i][c][1] += w[i] * x.y;
        sums[i][c][2] += w[i] * x.z;
        sums[i][c][3] += w[i] * x.w;
      }
    }
  }
}

DEVICE void store(const Scores &s, float *to) {
#pragma unroll
  for (int i = 0; i < EACH; i++)
#pragma unroll
    for (int j = 0; j < EACH; j++) to[(ty() + SIDE * i) * SCORE_PITCH + tx() + SIDE * j] = s[i][j];
}

/** A tile of queries and keys of one row and head. */
struct Tile {
  const Problem &p;
  i64 b, h, m0, n0;

  DEVICE bool hidden() const { return p.causal && n0 > m0 + TILE - 1 + p.queryOffset; }
  DEVICE i64 m(int i) const { return m0 + ty() + SIDE * i; }
  DEVICE i64 n(int j) const { return n0 + tx() + SIDE * j; }

  /** From products to scores times log2(e), -infinity where the query does not see the key. */
  DEVICE void finish(Scores &s) const {
#pragma unroll
    for (int i = 0; i < EACH; i++)
#pragma unroll
      for (int j = 0; j < EACH; j++) {
        if (!p.sees(b, m(i), n(j))) {
          s[i][j] = -infinity();
          continue;
        }
        float score = s[i][j] * p.scale;
        if (p.bias) score += p.bias[h * p.P + p.biasPlace(p.relative(m(i), n(j)))];
        if (p.dense) score += p.dense[p.densePlane(b, h) + m(i) * p.N + n(j)];
        s[i][j] = score * LOG2E;
      }
  }

  DEVICE float factor(int i, int j) const {
    return p.drops() && m(i) < p.M && n(j) < p.N ? p.factor(b, h, m(i), n(j)) : 1;
  }

  /** Probabilities as dropout scales them, and the gradients of the scores. */
  DEVICE void gradients(const float *q, const float *k, const float *dout, const float *v, const RowStatistics *rows,
                        Scores &shares, Scores &ds) const {
    dots(q, k, shares);
    dots(dout, v, ds);
    finish(shares);
#pragma unroll
    for (int i = 0; i < EACH; i++) {
      const RowStatistics row = rows[(b * p.H + h) * paddedRows(p.M) + m(i)];
#pragma unroll
      for (int j = 0; j < EACH; j++) {
        const float share = exponential2(shares[i][j] - row.x), kept = factor(i, j);
        ds[i][j] = share > 0 || share != share ? share * (kept * ds[i][j] - row.y) : 0;
        shares[i][j] = share * kept;
      }
    }
  }

  /** Adds a tile's ds to the row [P] of the bias; `ends` is this thread's part of what lies beyond +-R. */
  DEVICE void addBias(const float *ds, float *row, float2 &ends) const {
    const int R = p.radius();
    if (p.keyPositions || p.queryPositions) {
      if (threadIdx.x >= WARP) return;
      // Several keys may lie at the same distance: the first of them adds for all.
      const int lane = threadIdx.x;
      for (int i = 0; i < TILE && m0 + i < p.M; i++) {
        const bool inside = lane < TILE && n0 + lane < p.N;
        const int place = inside ? p.biasPlace(p.relative(m0 + i, n0 + lane)) : -1;
        const unsigned same = __match_any_sync(ALL_LANES, place);
        if (inside && lane == __ffs(same) - 1) {
          float sum = 0;
          for (unsigned left = same; left; left &= left - 1) sum += ds[i * SCORE_PITCH + __ffs(left) - 1];
          row[place] += sum;
        }
        __syncwarp();
      }
      return;
    }
    const int diagonal = int(threadIdx.x) - (TILE - 1);
    if (diagonal >= TILE) return;
    float sum = 0;
    for (int i = max(0, -diagonal); i < min(TILE, TILE - diagonal); i++) sum += ds[i * SCORE_PITCH + i + diagonal];
    const i64 relative = n0 - m0 - p.queryOffset + diagonal;
    if (relative <= -R) ends.x += sum;
    else if (relative >= R) ends.y += sum;
    else row[relative + R] += sum;
  }
};

KERNEL attention_any_forward(PROBLEM_PARAMETERS, T *out, float *lse) {
  const Problem p PROBLEM;
  const i64 m0 = i64(blockIdx.x) * TILE, h = blockIdx.y, b = blockIdx.z;
  float *queries = memory, *keys = queries + VALUES, *shares = keys + VALUES;
  read(q + p.query(b, h, 0), p.queryStride(), m0, M, queries);
  Sums sums = {};
  float top[EACH], total[EACH] = {};
#pragma unroll
  for (int i = 0; i < EACH; i++) top[i] = -infinity();
  for (i64 n0 = 0; n0 < N; n0 += TILE) {
    const Tile tile{p, b, h, m0, n0};
    if (tile.hidden()) break;
    __syncthreads();
    read(k + p.key(b, h, 0), p.keyStride(), n0, N, keys);
    __syncthreads();
    Scores s;
    dots(queries, keys, s);
    tile.finish(s);
#pragma unroll
    for (int i = 0; i < EACH; i++) {
      float most = top[i];
#pragma unroll
      for (int j = 0; j < EACH; j++) most = fmaxf(most, s[i][j]);
      most = acrossLanes<Largest, SIDE>(most);
      const float from = most == -infinity() ? 0 : most, shrink = exponential2(top[i] - from);
      float sum = 0;
#pragma unroll
      for (int j = 0; j < EACH; j++) {
        const float share = exponential2(s[i][j] - from);
        sum += share;
        s[i][j] = share * tile.factor(i, j);
      }
      total[i] = total[i] * shrink + acrossLanes<Sum, SIDE>(sum);
      top[i] = most;
#pragma unroll
      for (int c = 0; c < PARTS; c++)
#pragma unroll
        for (int x = 0; x < 4; x++) sums[i][c][x] *= shrink;
    }
    store(s, shares);
    __syncthreads();
    read(v + p.key(b, h, 0), p.keyStride(), n0, N, keys);
    __syncthreads();
    accumulate(sums, shares, SCORE_PITCH, 1, keys);
  }
#pragma unroll
  for (int i = 0; i < EACH; i++) {
    const bool seen = total[i] > 0 || total[i] != total[i];
    const i64 m = m0 + ty() + SIDE * i;
#pragma unroll
    for (int c = 0; c < PARTS; c++)
#pragma unroll
      for (int x = 0; x < 4; x++) sums[i][c][x] = seen ? sums[i][c][x] / total[i] : 0;
    if (tx() == 0 && m < M) lse[(b * H + h) * M + m] = seen ? (top[i] + log2f(total[i])) * LN2 : -infinity();
  }
  write(sums, 1, out + p.row(b, h, 0), p.stride(), m0, M);
}

/** dk, dv and the bias's gradient of one block of keys, the latter into partial [B,H,blocks,P]. */
KERNEL attention_any_keys(PROBLEM_PARAMETERS, const T *dout, const RowStatistics *rows, T *dk, T *dv, float *partial) {
  const Problem p PROBLEM;
  const i64 n0 = i64(blockIdx.x) * TILE, h = blockIdx.y, b = blockIdx.z;
  float *keys = memory, *values = keys + VALUES, *queries = values + VALUES, *douts = queries + VALUES;
  float *shares = douts + VALUES, *ds = shares + SCORES;
  float *biasRow = BIAS_GRADIENT ? partial + ((b * H + h) * gridDim.x + blockIdx.x) * P : nullptr;
  if (biasRow)
    for (i64 i = threadIdx.x; i < P; i += THREADS) biasRow[i] = 0;
  read(k + p.key(b, h, 0), p.keyStride(), n0, N, keys);
  read(v + p.key(b, h, 0), p.keyStride(), n0, N, values);
  Sums dkSums = {}, dvSums = {};
  float2 ends = {0, 0};
  for (i64 m0 = 0; m0 < M; m0 += TILE) {
    const Tile tile{p, b, h, m0, n0};
    if (tile.hidden()) continue;
    __syncthreads();
    read(q + p.query(b, h, 0), p.queryStride(), m0, M, queries);
    read(dout + p.row(b, h, 0), p.stride(), m0, M, douts);
    __syncthreads();
    Scores share, gradient;
    tile.gradients(queries, keys, douts, values, rows, share, gradient);
    store(share, shares);
    store(gradient, ds);
    __syncthreads();
    accumulate(dvSums, shares, 1, SCORE_PITCH, douts);
    accumulate(dkSums, ds, 1, SCORE_PITCH, queries);
    if (biasRow) tile.addBias(ds, biasRow, ends);
  }
  write(dkSums, scale, dk + p.key(b, h, 0), p.keyStride(), n0, N);
  write(dvSums, 1, dv + p.key(b, h, 0), p.keyStride(), n0, N);
  if (!biasRow) return;
  const float low = acrossBlock<Sum>(ends.x), high = acrossBlock<Sum>(ends.y);
  if (threadIdx.x == 0) {
    biasRow[0] += low;
    biasRow[P - 1] += high;
  }
}

/** dq of one block of queries. */
KERNEL attention_any_queries(PROBLEM_PARAMETERS, const T *dout, const RowStatistics *rows, T *dq) {
  const Problem p PROBLEM;
  const i64 m0 = i64(blockIdx.x) * TILE, h = blockIdx.y, b = blockIdx.z;
  float *queries = memory, *douts = queries + VALUES, *keys = douts + VALUES, *values = keys + VALUES;
  float *ds = values + VALUES;
  read(q + p.query(b, h, 0), p.queryStride(), m0, M, queries);
  read(dout + p.row(b, h, 0), p.stride(), m0, M, douts);
  Sums sums = {};
  for (i64 n0 = 0; n0 < N; n0 += TILE) {
    const Tile tile{p, b, h, m0, n0};
    if (tile.hidden()) break;
    __syncthreads();
    read(k + p.key(b, h, 0), p.keyStride(), n0, N, keys);
    read(v + p.key(b, h, 0), p.keyStride(), n0, N, values);
    __syncthreads();
    Scores share, gradient;
    tile.gradients(queries, keys, douts, values, rows, share, gradient);
    store(gradient, ds);
    __syncthreads();
    accumulate(sums, ds, SCORE_PITCH, 1, keys);
  }
  write(sums, scale, dq + p.query(b, h, 0), p.queryStride(), m0, M);
}

/** ddense of one tile: the sum over the rows and heads that share the plane. */
KERNEL attention_any_dense(PROBLEM_PARAMETERS, const T *dout, const RowStatistics *rows, float *ddense) {
  const Problem p PROBLEM;
  const i64 n0 = i64(blockIdx.x) * TILE, m0 = i64(blockIdx.y) * TILE, e = blockIdx.z / G, g = blockIdx.z % G;
  float *queries = memory, *douts = queries + VALUES, *keys = douts + VALUES, *values = keys + VALUES;
  Scores sums = {};
  for (i64 b = E == 1 ? 0 : e; b < (E == 1 ? B : e + 1); b++)
    for (i64 h = G == 1 ? 0 : g; h < (G == 1 ? H : g + 1); h++) {
      const Tile tile{p, b, h, m0, n0};
      if (tile.hidden()) continue;
      __syncthreads();
      read(q + p.query(b, h, 0), p.queryStride(), m0, M, queries);
      read(dout + p.row(b, h, 0), p.stride(), m0, M, douts);
      read(k + p.key(b, h, 0), p.keyStride(), n0, N, keys);
      read(v + p.key(b, h, 0), p.keyStride(), n0, N, values);
      __syncthreads();
      Scores share, gradient;
      tile.gradients(queries, keys, douts, values, rows, share, gradient);
#pragma unroll
      for (int i = 0; i < EACH; i++)
#pragma unroll
        for (int j = 0; j < EACH; j++) sums[i][j] += gradient[i][j];
    }
#pragma unroll
  for (int i = 0; i < EACH; i++)
#pragma unroll
    for (int j = 0; j < EACH; j++) {
      const i64 m = m0 + ty() + SIDE * i, n = n0 + tx() + SIDE * j;
      if (m < M && n < N) ddense[(blockIdx.z * M + m) * N + n] = sums[i][j];
    }
}
