// attention, CPU, forward. Contract, formulas and source: attention.ts; how tiles are laid out: tile.h.
#include <atomic>
#include <optional>
#include "tile.h"

namespace {

/** Blocks of queries that meet each key tile together: reading keys costs most where heads lie between them. */
constexpr int64_t GROUP = 4;

/** Room for the tile at hand: what products make of its operands, [KEYS,D] twice, [KEYS,QUERIES] twice. */
struct Workspace {
  Left<READ> keys, values;
  Right<COMPUTED> shares;
  float *scores, *factors;

  static int64_t rooms(const Problem &p) { 
    return roomOf<READ>(KEYS, p.D) + roomOf<READ>(p.D, KEYS) + roomOf<COMPUTED>(QUERIES, KEYS);
  }
  static int64_t size(const Problem &p) { return rooms(p) + 2 * KEYS * p.D + 2 * KEYS * QUERIES; }

  Workspace(const Problem &p, float *scratch) {
    float *data = scratch + rooms(p);
    keys = {data, p.D, 1, scratch};
    values = {data + KEYS * p.D, 1, p.D, keys.room + roomOf<READ>(KEYS, p.D)};
    scores = data + 2 * KEYS * p.D;
    factors = scores + KEYS * QUERIES;
    shares = {scores, QUERIES, values.room + roomOf<READ>(p.D, KEYS)};
  }

  void readKeys(const Problem &p, const QueryBlock &block, int64_t first) const {
    const int64_t at = p.key(block.b, block.h, first), count = std::min<int64_t>(KEYS, p.N - first);
    copyRows(p.k + at, p.H * p.D, count, p.D, 1, const_cast<float *>(keys.data), p.D);
    copyRows(p.v + at, p.H * p.D, count, p.D, 1, const_cast<float *>(values.data), p.D);
    prepare(keys, count, p.D);
    prepare(values, p.D, count);
  }
};

/** Online softmax over one block of queries: the running maximum, sum and weighted values of every lane. */
struct Softmax {
  const Problem &p;
  const Workspace &space;
  const QueryBlock block;
  float *sums, *scores;
  Right<COMPUTED> queries;
  alignas(VECTOR_BYTES) float top[QUERIES], total[QUERIES];

  /** What products make of the queries, and [D,QUERIES] twice. */
  static int64_t size(const Problem &p) { return roomOf<COMPUTED>(QUERIES, p.D) + (p.D + roundUp(p.D, ROW_GROUP)) * QUERIES; }

  Softmax(const Problem &p, const Workspace &space, QueryBlock block, float *scratch)
      : p(p), space(space), block(block), scores(space.scores) {
    float *rows = scratch + roomOf<COMPUTED>(QUERIES, p.D);
    queries = {rows, QUERIES, scratch};
    sums = rows + p.D * QUERIES;
    transposeRows(p.q + p.query(block.b, block.h, block.first), p.H * p.D, block.count, p.D, p.scale, rows);
    prepare(queries, block.lanes, p.D);
    for (int i = 0; i < QUERIES; i++) top[i] = -3.402823466e38f, total[i] = 0;
    memset(sums, 0, size_t(p.D * QUERIES) * sizeof(float));
  }

  void add(const Tile &t) {
    const int64_t lanes = block.lanes;
    fillBias(t, scores);
    product(space.keys, queries, {scores, QUERIES}, t.count, lanes, p.D, Into::ADD);
    for (int64_t i = 0; i < lanes; i += W) exponentiate(t.count, i);
    if (p.drops()) {
      fillDropout(t, space.factors);
      for (int64_t n = 0; n < t.count; n++)
        for (int64_t i = 0; i < block.count; i++) scores[n * QUERIES + i] *= space.factors[n * QUERIES + i];
    }
    prepare(space.shares, lanes, t.count);
    product(space.values, space.shares, {sums, QUERIES}, p.D, lanes, t.count, Into::ADD);
  }

  /** Turns W lanes of scores into exp(score - maximum), and what was summed before to the new maximum. */
  void exponentiate(int64_t count, int64_t lane) {
    float *s = scores + lane;
    const vec before = load(top + lane);
    vec most[4] = {before, before, before, before};
    int64_t n = 0;
    for (; n + 4 <= count; n += 4)
      for (int i = 0; i < 4; i++) most[i] = largest(load(s + (n + i) * QUERIES), most[i]);
    for (; n < count; n++) most[0] = largest(load(s + n * QUERIES), most[0]);
    const vec now = largest(largest(most[0], most[1]), largest(most[2], most[3]));
    vec sum = {};
    for (n = 0; n < count; n++) {
      const vec e = exponential(load(s + n * QUERIES) - now);
      store(s + n * QUERIES, e);
      sum += e;
    }
    const vec shrink = exponential(before - now);
    store(top + lane, now);
    store(total + lane, load(total + lane) * shrink + sum);
    const ivec changed = before != now;
    bool any = false;
    for (int w = 0; w < W; w++) any |= changed[w] != 0;
    if (any)
      for (int64_t d = 0; d < p.D; d++) store(sums + d * QUERIES + lane, load(sums + d * QUERIES + lane) * shrink);
  }

  void finish(T *out, float *lse) {
    alignas(VECTOR_BYTES) float shares[QUERIES] = {};
    for (int64_t i = 0; i < block.count; i++) {
      const bool seen = total[i] > 0 || total[i] != total[i];
      shares[i] = seen ? 1 / total[i] : 0;
      lse[(block.b * p.H + block.h) * p.M + block.first + i] = seen ? top[i] + logf(total[i]) : -INFINITY;
    }
    for (int64_t d = 0; d < p.D; d++)
      for (int64_t i = 0; i < block.lanes; i += W) {
        float *at = sums + d * QUERIES + i;
        store(at, load(at) * load(shares + i));
      }
    restoreRows(sums, block.count, p.D, 1, out + p.query(block.b, block.h, block.first), p.H * p.D);
  }
};

/** `out` and `lse` of up to GROUP blocks of queries of one row and head. */
void attendGroup(const Problem &p, int64_t b, int64_t h, int64_t firstBlock, float *scratch, T *out, float *lse) {
  [[maybe_unused]] const ProductUnit unit{};
  const Workspace space(p, scratch);
  std::optional<Softmax> group[GROUP];
  const int64_t blocks = std::min(GROUP, p.queryBlocks() - firstBlock);
  for (int64_t i = 0; i < blocks; i++)
    group[i].emplace(p, space, QueryBlock(p, b, h, (firstBlock + i) * QUERIES),
                     scratch + Workspace::size(p) + i * Softmax::size(p));
  for (int64_t n = 0; n < p.N; n += KEYS) {
    bool read = false;
    for (int64_t i = 0; i < blocks; i++) {
      const Tile tile(p, group[i]->block, n);
      if (tile.sight == Sight::NONE) continue;
      if (!read) space.readKeys(p, group[i]->block, n);
      read = true;
      group[i]->add(tile);
    }
  }
  for (int64_t i = 0; i < blocks; i++) group[i]->finish(out, lse);
}

}  // namespace

KERNEL(attention_forward)(const T *q, const T *k, const T *v, const float *bias, const float *dense,
                          const int32_t *querySegments, const int32_t *keySegments, const int32_t *queryPositions,
                          const int32_t *keyPositions, const int32_t *rng, T *out, float *lse, int64_t B, int64_t M,
                          int64_t H, int64_t D, int64_t N, int64_t P, int64_t E, int64_t G, float scale, int32_t causal,
                          int32_t queryOffset, float dropout, int32_t site) {
  const Problem p{q, k, v, bias, dense, querySegments, keySegments, queryPositions, keyPositions, rng, B, M, H, D, N,
                  P, E, G, scale, causal != 0, queryOffset, dropout, site};
  const int64_t groups = (p.queryBlocks() + GROUP - 1) / GROUP;
  std::atomic<bool> failed{false};
  parallelFor(B * H * groups, 1, [&](int64_t begin, int64_t end) {
    static thread_local Scratch memory;
    float *scratch = memory.floats(Workspace::size(p) + GROUP * Softmax::size(p));
    if (!scratch) {
      failed = true;
      return;
    }
    for (int64_t i = begin; i < end; i++)
      attendGroup(p, i / (H * groups), i / groups % H, i % groups * GROUP, scratch, out, lse);
  });
  return failed ? OUT_OF_MEMORY : OK;
}
