// attention, CPU, forward. Contract, formulas and source: attention.ts; how tiles are laid out: tile.h.
#include <atomic>
#include "tile.h"

namespace {

/** Online softmax over one block of queries: the running maximum, sum and weighted values of every lane. */
struct Softmax {
  const Problem &p;
  alignas(VECTOR_BYTES) float top[QUERIES], total[QUERIES];
  float *queries, *sums, *scores, *keys, *values, *factors;  // [D,QUERIES] twice, [KEYS,QUERIES], [KEYS,D] twice

  static int64_t scratchSize(const Problem &p) {
    return 2 * p.D * QUERIES + 2 * KEYS * p.D + (p.drops() ? 2 : 1) * KEYS * QUERIES;
  }

  Softmax(const Problem &p, float *scratch) : p(p) {
    queries = scratch;
    sums = queries + p.D * QUERIES;
    scores = sums + p.D * QUERIES;
    keys = scores + KEYS * QUERIES;
    values = keys + KEYS * p.D;
    factors = values + KEYS * p.D;
  }

  void start(const QueryBlock &block) {
    transposeRows(p.q + p.query(block.b, block.h, block.first), p.H * p.D, block.count, p.D, p.scale, queries);
    for (int i = 0; i < QUERIES; i++) top[i] = -3.402823466e38f, total[i] = 0;
    memset(sums, 0, size_t(p.D * QUERIES) * sizeof(float));
  }

  void add(const Tile &t) {
    const int64_t at = p.key(t.block.b, t.block.h, t.first), stride = p.H * p.D, lanes = t.block.lanes;
    copyRows(p.k + at, stride, t.count, p.D, 1, keys, p.D);
    copyRows(p.v + at, stride, t.count, p.D, 1, values, p.D);
    fillBias(t, scores);
    product({keys, p.D, 1}, {queries, QUERIES}, {scores, QUERIES}, t.count, lanes, p.D, Into::ADD);
    for (int64_t i = 0; i < lanes; i += W) exponentiate(t.count, i);
    if (p.drops()) {
      fillDropout(t, factors);
      for (int64_t n = 0; n < t.count; n++)
        for (int64_t i = 0; i < t.block.count; i++) scores[n * QUERIES + i] *= factors[n * QUERIES + i];
    }
    product({values, 1, p.D}, {scores, QUERIES}, {sums, QUERIES}, p.D, lanes, t.count, Into::ADD);
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

  void finish(const QueryBlock &block, T *out, float *lse) const {
    for (int64_t i = 0; i < block.count; i++) {
      const bool seen = total[i] > 0 || total[i] != total[i];
      const float share = seen ? 1 / total[i] : 0;
      T *row = out + p.query(block.b, block.h, block.first + i);
      for (int64_t d = 0; d < p.D; d++) row[d] = sums[d * QUERIES + i] * share;
      lse[(block.b * p.H + block.h) * p.M + block.first + i] = seen ? top[i] + logf(total[i]) : -INFINITY;
    }
  }
};

}  // namespace

KERNEL(attention_forward)(const T *q, const T *k, const T *v, const float *bias, const float *dense,
                          const int32_t *querySegments, const int32_t *keySegments, const int32_t *queryPositions,
                          const int32_t *keyPositions, const int32_t *rng, T *out, float *lse, int64_t B, int64_t M,
                          int64_t H, int64_t D, int64_t N, int64_t P, int64_t E, int64_t G, float scale, int32_t causal,
                          int32_t queryOffset, float dropout, int32_t site) {
  const Problem p{q, k, v, bias, dense, querySegments, keySegments, queryPositions, keyPositions, rng, B, M, H, D, N,
                  P, E, G, scale, causal != 0, queryOffset, dropout, site};
  const int64_t blocks = p.queryBlocks();
  std::atomic<bool> failed{false};
  parallelFor(B * H * blocks, 1, [&](int64_t begin, int64_t end) {
    float *scratch = threadScratch(Softmax::scratchSize(p));
    if (!scratch) {
      failed = true;
      return;
    }
    Softmax softmax(p, scratch);
    for (int64_t i = begin; i < end; i++) {
      const QueryBlock block(p, i / (H * blocks), i / blocks % H, i % blocks * QUERIES);
      softmax.start(block);
      for (int64_t n = 0; n < N; n += KEYS) {
        const Tile tile(p, block, n);
        if (tile.sight != Sight::NONE) softmax.add(tile);
      }
      softmax.finish(block, out, lse);
    }
  });
  return failed ? OUT_OF_MEMORY : OK;
}
