// attention_decode and cache_append, CPU. Contracts, formulas and source: attention_decode.ts in this folder.
#include <algorithm>
#include <atomic>
#include "scratch.h"
#include "transpose.h"

namespace {

/** Keys between the one in use and the one to fetch: rows of a head lie far apart, which no prefetcher expects. */
constexpr int64_t AHEAD = 16;

/** One row and head: `count` keys and values, `stride` elements apart, each in a cache of its own if there are origins. */
struct Head {
  const T *q, *keys, *values;
  const int32_t *origins;
  int64_t cache;  // elements between two caches
  int64_t count, stride, D;
  float scale;

  int64_t at(int64_t n) const { return n * stride + (origins ? origins[n] * cache : 0); }

  static void fetch(const T *row, int64_t D) {
    for (int64_t d = 0; d < D; d += 64 / int64_t(sizeof(T))) __builtin_prefetch(row + d);
  }

  /** scale * q . k of W keys from n on; those past the end repeat the last. */
  vec scores(int64_t n) const {
    vec products[W] = {};
    for (int i = 0; i < W; i++) fetch(keys + at(std::min(n + i + AHEAD, count - 1)), D);
    int64_t rows[W];
    for (int i = 0; i < W; i++) rows[i] = at(std::min(n + i, count - 1));
    forVectors(0, D, [&](int64_t d, auto part) {
      const vec x = load(q + d, part);
      for (int i = 0; i < W; i++) products[i] += x * load(keys + rows[i] + d, part);
    });
    transpose(products);
    for (int step = 1; step < W; step *= 2)
      for (int i = 0; i < W; i += 2 * step) products[i] += products[i + step];
    return products[0] * scale;
  }

  /** The values' mean by weight, for V vectors of a row from d on. */
  template <int V> void mean(const float *weights, float share, int64_t d, T *out) const {
    vec even[V] = {}, odd[V] = {};
    int64_t n = 0;
    for (; n + 2 <= count; n += 2) {
      const T *row = values + at(n) + d, *next = values + at(n + 1) + d;
      fetch(values + at(std::min(n + AHEAD, count - 2)) + d, V * W);
      fetch(values + at(std::min(n + AHEAD + 1, count - 1)) + d, V * W);
      for (int v = 0; v < V; v++) {
        even[v] += load(row + v * W) * weights[n];
        odd[v] += load(next + v * W) * weights[n + 1];
      }
    }
    if (n < count)
      for (int v = 0; v < V; v++) even[v] += load(values + at(n) + d + v * W) * weights[n];
    for (int v = 0; v < V; v++) store(out + d + v * W, (even[v] + odd[v]) * share);
  }

  void means(const float *weights, float share, T *out) const {
    int64_t d = 0;
    for (; d + 4 * W <= D; d += 4 * W) mean<4>(weights, share, d, out);
    for (; d + W <= D; d += W) mean<1>(weights, share, d, out);
    if (d == D) return;
    vec all = {};
    for (int64_t n = 0; n < count; n++) all += load(values + at(n) + d, D - d) * weights[n];
    store(out + d, all * share, D - d);
  }
};

}  // namespace

KERNEL(attention_decode)(const T *q, const T *keys, const T *values, const int32_t *position, const float *bias,
                         const int32_t *keySegments, const int32_t *origins, T *out, int64_t R, int64_t H, int64_t D,
                         int64_t B, int64_t C, int64_t P, float scale) {
  int64_t most = position ? 0 : C;
  for (int64_t r = 0; r < R; r++) {
    if (position && (position[r] < 0 || position[r] >= C)) return BAD_INDEX;
    if (position) most = std::max<int64_t>(most, position[r] + 1);
    for (int64_t n = 0; origins && n < (position ? position[r] + 1 : C); n++)
      if (origins[r * C + n] < 0 || origins[r * C + n] >= B) return BAD_INDEX;
  }
  const int64_t radius = P / 2;
  std::atomic<bool> failed{false};
  // About 64 KiB of keys and values a chunk: less is not worth waking a thread for.
  parallelFor(R * H, std::max<int64_t>(1, 16384 / (2 * most * D)), [&](int64_t begin, int64_t end) {
    static thread_local Scratch scratch;
    float *s = scratch.floats(most + W);
    if (!s) {
      failed = true;
      return;
    }
    for (int64_t i = begin; i < end; i++) {
      const int64_t r = i / H, h = i % H, b = r * B / R, cache = C * H * D;
      const int64_t count = position ? position[r] + 1 : C, last = count - 1;
      const int32_t *from = origins ? origins + r * C : nullptr;
      const int64_t at = (from ? 0 : b * cache) + h * D;
      const Head head{q + i * D, keys + at, values + at, from, cache, count, H * D, D, scale};
      for (int64_t n = 0; n < count; n += W) store(s + n, head.scores(n));
      if (bias)
        for (int64_t n = 0; n < count; n++) s[n] += bias[h * P + std::max(n - last, -radius) + radius];
      if (keySegments)
        for (int64_t n = 0; n < count; n++)
          if (keySegments[(from ? from[n] : b) * C + n] < 0) s[n] = -INFINITY;
      for (int64_t n = count; n < count + W; n++) s[n] = -INFINITY;
      const float top = std::max(largest(s, count), -3.402823466e38f);  // finite also where nothing is seen
      vec total = {};
      for (int64_t n = 0; n < count; n += W) {
        const vec e = exponential(load(s + n) - top);
        store(s + n, e);
        total += e;
      }
      const float all = sum(total);
      head.means(s, all == 0 ? 0 : 1 / all, out + i * D);
    }
  });
  return failed ? OUT_OF_MEMORY : OK;
}

KERNEL(cache_append)(const T *k, const T *v, const int32_t *position, T *keys, T *values, int64_t R, int64_t H,
                     int64_t D, int64_t B, int64_t C) {
  for (int64_t r = 0; r < R; r++)
    if (position[r] < 0 || position[r] >= C) return BAD_INDEX;
  for (int64_t r = 0; r < R; r++) {
    const int64_t to = (r * B / R * C + position[r]) * H * D;
    memcpy(keys + to, k + r * H * D, size_t(H * D) * sizeof(T));
    memcpy(values + to, v + r * H * D, size_t(H * D) * sizeof(T));
  }
  return OK;
}
