// attention, CPU, backward. Contract, formulas and source: attention.ts; how tiles are laid out: tile.h.
#include <atomic>
#include "tile.h"

namespace {

/** dout, out and lse beside the problem; rows of `width` floats hold D values and zeros up to whole vectors. */
struct BackwardProblem : Problem {
  const T *dout, *out;
  const float *lse;
  int64_t width;

  BackwardProblem(const Problem &p, const T *dout, const T *out, const float *lse)
      : Problem(p), dout(dout), out(out), lse(lse), width(roundUp(p.D, W)) {}
};

/** The gradients of scores, tile by tile for one block of queries. */
struct Gradient {
  const BackwardProblem &p;
  // Per row and head: [N,D], or one tile of it where products have copies. Per block of queries: [D,QUERIES], [QUERIES,width].
  // Per tile: [KEYS,QUERIES].
  float *keys, *values, *queriesT, *doutT, *queries, *dout, *shares, *ds, *factors;
  float *keyRooms;
  Right<COMPUTED> rightQueriesT, rightQueries, rightDs;
  Right<READ> rightDoutT, rightDout;
  Left<COMPUTED> leftShares, leftDs;
  alignas(VECTOR_BYTES) float lse[QUERIES], delta[QUERIES];

  static int64_t keyRows(const BackwardProblem &p) { return COPIES ? KEYS : p.N; }
  /** Room of the keys, the values and the keys transposed of one tile. */
  static int64_t keyRoom(const BackwardProblem &p) { 
    return 2 * roomOf<READ>(KEYS, p.D) + roomOf<READ>(p.D, KEYS);
  }
  static int64_t rooms(const BackwardProblem &p) {
    return (p.N + KEYS - 1) / KEYS * keyRoom(p) + roomOf<COMPUTED>(QUERIES, p.D) + roomOf<READ>(QUERIES, p.D) +
           roomOf<COMPUTED>(p.width, QUERIES) + roomOf<READ>(p.width, QUERIES) + roomOf<COMPUTED>(QUERIES, KEYS) +
           2 * roomOf<COMPUTED>(KEYS, QUERIES);
  }
  static int64_t scratchSize(const BackwardProblem &p) {
    return rooms(p) + 2 * keyRows(p) * p.D + 2 * p.D * QUERIES + 2 * p.width * QUERIES + 3 * KEYS * QUERIES;
  }

  Gradient(const BackwardProblem &p, float *scratch) : p(p), keyRooms(scratch) {
    float *room = keyRooms + (p.N + KEYS - 1) / KEYS * keyRoom(p);
    const auto next = [](float *&at, int64_t size) { return (at += size) - size; };
    float *data = scratch + rooms(p);
    keys = next(data, keyRows(p) * p.D);
    values = next(data, keyRows(p) * p.D);
    queriesT = next(data, p.D * QUERIES);
    doutT = next(data, p.D * QUERIES);
    queries = next(data, p.width * QUERIES);
    dout = next(data, p.width * QUERIES);
    shares = next(data, KEYS * QUERIES);
    ds = next(data, KEYS * QUERIES);
    factors = data;
    rightQueriesT = {queriesT, QUERIES, next(room, roomOf<COMPUTED>(QUERIES, p.D))};
    rightDoutT = {doutT, QUERIES, next(room, roomOf<READ>(QUERIES, p.D))};
    rightQueries = {queries, p.width, next(room, roomOf<COMPUTED>(p.width, QUERIES))};
    rightDout = {dout, p.width, next(room, roomOf<READ>(p.width, QUERIES))};
    rightDs = {ds, QUERIES, next(room, roomOf<COMPUTED>(QUERIES, KEYS))};
    leftShares = {shares, QUERIES, 1, next(room, roomOf<COMPUTED>(KEYS, QUERIES))};
    leftDs = {ds, QUERIES, 1, room};
  }

  float *roomOfTile(int64_t n) const { return keyRooms + n / KEYS * keyRoom(p); }
  int64_t keyRow(int64_t n) const { return COPIES ? 0 : n * p.D; }
  Left<READ> leftKeys(int64_t n) const { return {keys + keyRow(n), p.D, 1, roomOfTile(n)}; }
  Left<READ> leftValues(int64_t n) const { return {values + keyRow(n), p.D, 1, roomOfTile(n) + roomOf<READ>(KEYS, p.D)}; }
  Left<READ> leftKeysT(int64_t n) const { return {keys + keyRow(n), 1, p.D, roomOfTile(n) + 2 * roomOf<READ>(KEYS, p.D)}; }

  void readKeys(int64_t b, int64_t h) {
    for (int64_t n = 0; n < p.N; n += KEYS) {
      const int64_t count = std::min<int64_t>(KEYS, p.N - n);
      copyRows(p.k + p.key(b, h, n), p.H * p.D, count, p.D, 1, keys + keyRow(n), p.D);
      copyRows(p.v + p.key(b, h, n), p.H * p.D, count, p.D, 1, values + keyRow(n), p.D);
      prepare(leftKeys(n), count, p.D);
      prepare(leftValues(n), count, p.D);
      prepare(leftKeysT(n), p.D, count);
    }
  }

  void start(const QueryBlock &block) {
    const int64_t at = p.query(block.b, block.h, block.first), stride = p.H * p.D;
    transposeRows(p.q + at, stride, block.count, p.D, p.scale, queriesT);
    transposeRows(p.dout + at, stride, block.count, p.D, 1, doutT);
    copyRows(p.q + at, stride, block.count, p.D, p.scale, queries, p.width);
    copyRows(p.dout + at, stride, block.count, p.D, 1, dout, p.width);
    prepare(rightQueriesT, block.lanes, p.D);
    prepare(rightDoutT, block.lanes, p.D);
    prepare(rightQueries, p.width, block.count);
    prepare(rightDout, p.width, block.count);
    for (int64_t i = 0; i < QUERIES; i++) {
      lse[i] = INFINITY;  // lanes without a query, and queries that see nothing, have no part in anything
      delta[i] = 0;
      if (i >= block.count) continue;
      const float l = p.lse[(block.b * p.H + block.h) * p.M + block.first + i];
      if (l > -INFINITY || l != l) lse[i] = l;
      const T *o = p.out + at + i * stride;
      const float *d = dout + i * p.width;
      delta[i] = vectorSum(p.D, [&](int64_t j, auto n) { return load(o + j, n) * load(d + j, n); });
    }
  }

  /** Leaves the probabilities, as dropout scaled them, in `shares` and their scores' gradients in `ds`. */
  void of(const Tile &t) {
    const int64_t lanes = t.block.lanes;
    fillBias(t, shares);
    product(leftKeys(t.first), rightQueriesT, {shares, QUERIES}, t.count, lanes, p.D, Into::ADD);
    product(leftValues(t.first), rightDoutT, {ds, QUERIES}, t.count, lanes, p.D, Into::REPLACE);
    if (p.drops()) fillDropout(t, factors);
    for (int64_t i = 0; i < lanes; i += W) {
      const vec l = load(lse + i), d = load(delta + i);
      for (int64_t n = 0; n < t.count; n++) {
        const int64_t at = n * QUERIES + i;
        const vec share = exponential(load(shares + at) - l);
        const vec factor = p.drops() ? load(factors + at) : splat(1);
        store(shares + at, share * factor);
        store(ds + at, share * (load(ds + at) * factor - d));
      }
    }
  }
};

/** Adds a tile's ds to the gradient [P] of the bias of its head. */
void addBiasGradient(const Tile &t, const float *ds, float *dbias) {
  const int64_t lanes = t.block.lanes;
  if (t.kind == Bias::GATHERED) {
    for (int64_t n = 0; n < t.count; n++)
      for (int64_t i = 0; i < t.block.count; i++)
        dbias[t.gatheredIndex(t.block.first + i, t.first + n)] += ds[n * QUERIES + i];
    return;
  }
  if (t.kind == Bias::CONSTANT) {
    vec all = {};
    for (int64_t n = 0; n < t.count; n++)
      for (int64_t i = 0; i < lanes; i += W) all += load(ds + n * QUERIES + i);
    dbias[t.constant] += sum(all);
    return;
  }
  // Vectors W keys and W queries apart lie on the same diagonals: for each key modulo W they are summed in registers,
  // then the W rows of sums, each a step further along the strip, are added up.
  constexpr int TURNS = KEYS / W, SPAN = QUERIES / W + TURNS - 1;
  alignas(VECTOR_BYTES) float rows[W][(SPAN + 2) * W];
  for (int r = 0; r < W; r++) {
    store(rows[r], vec{});
    store(rows[r] + (SPAN + 1) * W, vec{});
    for (int u = 0; u < SPAN; u++) {
      vec all = {};
      for (int turn = std::max(0, TURNS - 1 - u); turn < std::min(TURNS, QUERIES / W + TURNS - 1 - u); turn++) {
        const int64_t n = r + turn * W, i = (u + turn - (TURNS - 1)) * W;
        if (n < t.count && i < lanes) all += load(ds + n * QUERIES + i);
      }
      store(rows[r] + (u + 1) * W, all);
    }
  }
  // rows[r][W + x] belongs to strip entry x + W - 1 - r.
  float strip[QUERIES + KEYS];
  for (int i = 0; i < QUERIES + KEYS; i += W) {
    vec all = {};
    for (int r = 0; r < W; r++) all += load(rows[r] + i + 1 + r);
    store(strip + i, all);
  }
  const int64_t start = t.stripStart();
  for (int i = 0; i < QUERIES + KEYS - 1; i++) dbias[t.biasIndex(start - i)] += strip[i];
}

/** dq of some blocks of queries of one row and head, and their part of dk, dv and dbias. */
struct Part {
  const BackwardProblem &p;
  int64_t b, h, firstBlock, endBlock;

  static int64_t scratchSize(const BackwardProblem &p) { return Gradient::scratchSize(p) + roundUp(p.D, ROW_GROUP) * QUERIES;
  }

  void run(float *scratch, T *dq, float *dk, float *dv, float *dbias) const {
    [[maybe_unused]] const ProductUnit unit{};
    Gradient gradient(p, scratch);
    gradient.readKeys(b, h);
    float *dqT = scratch + Gradient::scratchSize(p);
    memset(dk, 0, size_t(p.N * p.width) * sizeof(float));
    memset(dv, 0, size_t(p.N * p.width) * sizeof(float));
    if (dbias) memset(dbias, 0, size_t(p.P) * sizeof(float));
    for (int64_t i = firstBlock; i < endBlock; i++) {
      const QueryBlock block(p, b, h, i * QUERIES);
      gradient.start(block);
      memset(dqT, 0, size_t(p.D * QUERIES) * sizeof(float));
      for (int64_t n = 0; n < p.N; n += KEYS) {
        const Tile t(p, block, n);
        if (t.sight == Sight::NONE) continue;
        gradient.of(t);
        prepare(gradient.leftShares, t.count, block.count);
        prepare(gradient.leftDs, t.count, block.count);
        prepare(gradient.rightDs, block.lanes, t.count);
        const Sums dvRows{dv + n * p.width, p.width}, dkRows{dk + n * p.width, p.width};
        product(gradient.leftShares, gradient.rightDout, dvRows, t.count, p.width, block.count, Into::ADD);
        product(gradient.leftDs, gradient.rightQueries, dkRows, t.count, p.width, block.count, Into::ADD);
        product(gradient.leftKeysT(n), gradient.rightDs, {dqT, QUERIES}, p.D, block.lanes, t.count, Into::ADD);
        if (dbias) addBiasGradient(t, gradient.ds, dbias);
      }
      restoreRows(dqT, block.count, p.D, p.scale, dq + p.query(b, h, block.first), p.H * p.D);
    }
  }
};

/** Writes the sum of `parts` arrays [N,width], `stride` floats apart, to a head's rows of dk or dv. */
void sumParts(const BackwardProblem &p, const float *first, int64_t parts, int64_t stride, T *to) {
  for (int64_t n = 0; n < p.N; n++)
    forVectors(0, p.D, [&](int64_t d, auto count) {
      vec all = load(first + n * p.width + d);
      for (int64_t i = 1; i < parts; i++) all += load(first + i * stride + n * p.width + d);
      store(to + n * p.H * p.D + d, all, count);
    });
}

/** ddense of one block of queries: the sum over the rows and heads that share the plane. */
void denseGradient(const BackwardProblem &p, int64_t plane, int64_t firstQuery, float *scratch, float *ddense) {
  [[maybe_unused]] const ProductUnit unit{};
  Gradient gradient(p, scratch);
  float *to = ddense + (plane * p.M + firstQuery) * p.N;
  memset(to, 0, size_t(std::min<int64_t>(QUERIES, p.M - firstQuery) * p.N) * sizeof(float));
  const int64_t e = plane / p.G, g = plane % p.G;
  for (int64_t b = p.E == 1 ? 0 : e; b < (p.E == 1 ? p.B : e + 1); b++)
    for (int64_t h = p.G == 1 ? 0 : g; h < (p.G == 1 ? p.H : g + 1); h++) {
      const QueryBlock block(p, b, h, firstQuery);
      gradient.readKeys(b, h);
      gradient.start(block);
      for (int64_t first = 0; first < p.N; first += KEYS) {
        const Tile t(p, block, first);
        if (t.sight == Sight::NONE) continue;
        gradient.of(t);
        forColumns(gradient.ds, QUERIES, t.count, block.count, [&](int64_t m, int64_t n, vec v, int64_t count) {
          float *row = to + m * p.N + first + n;
          storeFirst(row, v + (count == W ? load(row) : load(row, count)), count);
        });
      }
    }
}

}  // namespace

KERNEL(attention_backward)(const T *dout, const T *q, const T *k, const T *v, const T *out, const float *lse,
                           const float *bias, const float *dense, const int32_t *querySegments,
                           const int32_t *keySegments, const int32_t *queryPositions, const int32_t *keyPositions,
                           const int32_t *rng, T *dq, T *dk, T *dv, float *dbias, float *ddense, int64_t B, int64_t M,
                           int64_t H, int64_t D, int64_t N, int64_t P, int64_t E, int64_t G, float scale,
                           int32_t causal, int32_t queryOffset, float dropout, int32_t site) {
  const BackwardProblem p({q, k, v, bias, dense, querySegments, keySegments, queryPositions, keyPositions, rng, B, M, H,
                           D, N, P, E, G, scale, causal != 0, queryOffset, dropout, site},
                          dout, out, lse);
  // Few heads are split into parts of several blocks of queries, by shape alone: sums must not depend on the threads.
  const int64_t heads = B * H, blocks = p.queryBlocks(), partsWanted = (8 + heads - 1) / heads;
  const int64_t partBlocks = (blocks + partsWanted - 1) / partsWanted, parts = (blocks + partBlocks - 1) / partBlocks;
  const int64_t keySize = roundUp(N, ROW_GROUP) * p.width, partSize = 2 * keySize;
  static thread_local Scratch biasScratch;
  Scratch keyScratch;  // given back: large where few heads meet long sequences
  float *biasParts = biasScratch.floats(dbias ? heads * parts * P : 0);
  float *keyParts = keyScratch.floats(parts > 1 ? heads * parts * partSize : 0);
  std::atomic<bool> failed{(dbias && !biasParts) || (parts > 1 && !keyParts)};
  const int64_t scratchSize = Part::scratchSize(p) + (parts > 1 ? 0 : partSize);
  parallelFor(failed ? 0 : heads * parts, 1, [&](int64_t begin, int64_t end) {
    static thread_local Scratch memory;
    float *scratch = memory.floats(scratchSize);
    if (!scratch) {
      failed = true;
      return;
    }
    for (int64_t i = begin; i < end; i++) {
      const int64_t head = i / parts, b = head / H, h = head % H, first = i % parts * partBlocks;
      float *dkPart = parts > 1 ? keyParts + i * partSize : scratch + Part::scratchSize(p);
      const Part part{p, b, h, first, std::min(first + partBlocks, blocks)};
      part.run(scratch, dq, dkPart, dkPart + keySize, dbias ? biasParts + i * P : nullptr);
      if (parts > 1) continue;
      sumParts(p, dkPart, 1, 0, dk + p.key(b, h, 0));
      sumParts(p, dkPart + keySize, 1, 0, dv + p.key(b, h, 0));
    }
  });
  if (failed) return OUT_OF_MEMORY;
  if (parts > 1)
    parallelFor(heads, 1, [&](int64_t begin, int64_t end) {
      for (int64_t head = begin; head < end; head++) {
        const float *first = keyParts + head * parts * partSize;
        sumParts(p, first, parts, partSize, dk + p.key(head / H, head % H, 0));
        sumParts(p, first + keySize, parts, partSize, dv + p.key(head / H, head % H, 0));
      }
    });
  if (dbias)
    for (int64_t h = 0; h < H; h++)
      for (int64_t i = 0; i < P; i++) {
        float all = 0;
        for (int64_t b = 0; b < B; b++)
          for (int64_t part = 0; part < parts; part++) all += biasParts[((b * H + h) * parts + part) * P + i];
        dbias[h * P + i] = all;
      }
  if (ddense)
    parallelFor(E * G * blocks, 1, [&](int64_t begin, int64_t end) {
      static thread_local Scratch memory;
      float *scratch = memory.floats(Gradient::scratchSize(p));
      if (!scratch) {
        failed = true;
        return;
      }
      for (int64_t i = begin; i < end; i++) denseGradient(p, i / blocks, i % blocks * QUERIES, scratch, ddense);
    });
  return failed ? OUT_OF_MEMORY : OK;
}
