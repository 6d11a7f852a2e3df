// attention_decode and cache_append, CPU. Contracts, formulas and source: attention_decode.ts in this folder.
#include <algorithm>
#include <atomic>
#include "half.h"
#include "scratch.h"
#include "transpose.h"

namespace {

/** One row and head: `count` keys and values of type K, `stride` elements apart, each in a cache of its own if there are origins. */
template <class K> struct Head {
  const T *q;
  const K *keys, *values;
  const int32_t *origins;
  int64_t cache;  // elements between two caches
  int64_t count, stride, D;
  float scale;

  int64_t at(int64_t n) const { return n * stride + (origins ? origins[n] * cache : 0); }

  /** scale * q . k of W keys from n on; those past the end repeat the last. */
  vec scores(int64_t n) const {
    vec products[W] = {};
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

  /** Adds values [n, end), n even, by weight: V vectors of a row from d on, sums of even and odd ones `D` apart. */
  template <int V> void add(const float *weights, int64_t n, int64_t end, int64_t d, float *sums) const {
    vec even[V], odd[V];
    for (int v = 0; v < V; v++) even[v] = load(sums + d + v * W), odd[v] = load(sums + D + d + v * W);
    for (; n + 2 <= end; n += 2) {
      const K *row = values + at(n) + d, *next = values + at(n + 1) + d;
      for (int v = 0; v < V; v++) {
        even[v] += load(row + v * W) * weights[n];
        odd[v] += load(next + v * W) * weights[n + 1];
      }
    }
    if (n < end)
      for (int v = 0; v < V; v++) even[v] += load(values + at(n) + d + v * W) * weights[n];
    for (int v = 0; v < V; v++) store(sums + d + v * W, even[v]), store(sums + D + d + v * W, odd[v]);
  }

  void add(const float *weights, int64_t n, int64_t end, float *sums) const {
    int64_t d = 0;
    for (; d + 4 * W <= D; d += 4 * W) add<4>(weights, n, end, d, sums);
    for (; d + W <= D; d += W) add<1>(weights, n, end, d, sums);
    if (d == D) return;
    vec all = load(sums + d, D - d);
    for (; n < end; n++) all += load(values + at(n) + d, D - d) * weights[n];
    store(sums + d, all, D - d);
  }
};

/** What a row's heads share. */
struct Problem {
  const float *bias;
  const int32_t *segments;  // of all caches
  int64_t C, P;
};

/** Some heads of one row: a block of keys or values is read by all of them before the next one, so as it lies in memory. */
template <class K> class Heads {
 public:
  static int64_t roomOf(int64_t heads, int64_t most, int64_t D) { return heads * (most + W + 2 * D); }

  /** @param b the cache of a row that has one for itself @param h the first head */
  Heads(const Problem &p, const Head<K> &first, int64_t heads, int64_t b, int64_t h, float *room)
      : p_(p), first_(first), heads_(heads), b_(b), h_(h), step_((first.count + W - 1) / W * W), scores_(room), sums_(room + heads * step_) {}

  void attend(T *out) const {
    const int64_t count = first_.count, D = first_.D;
    fetch(first_.keys, 0);
    for (int64_t n = 0; n < count; n += W) {
      fetch(first_.keys, n + W);
      for (int64_t i = 0; i < heads_; i++) store(scores_ + i * step_ + n, head(i).scores(n));
    }
    fetch(first_.values, 0);
    for (int64_t i = 0; i < heads_; i++) softmax(i);
    memset(sums_, 0, heads_ * 2 * D * sizeof(float));
    for (int64_t n = 0; n < count; n += W) {
      fetch(first_.values, n + W);
      for (int64_t i = 0; i < heads_; i++) head(i).add(scores_ + i * step_, n, std::min(n + W, count), sums_ + 2 * i * D);
    }
    for (int64_t i = 0; i < heads_; i++) {
      const float *even = sums_ + 2 * i * D;
      forVectors(0, D, [&](int64_t d, auto part) { store(out + i * D + d, load(even + d, part) + load(even + D + d, part), part); });
    }
  }

 private:
  Head<K> head(int64_t i) const {
    Head<K> one = first_;
    one.q += i * one.D;
    one.keys += i * one.D;
    one.values += i * one.D;
    return one;
  }

  /** Asks for a block of keys or values. */
  void fetch(const K *rows, int64_t n) const {
    for (const int64_t end = std::min(n + W, first_.count); n < end; n++)
      for (int64_t d = 0; d < heads_ * first_.D; d += 64 / int64_t(sizeof(K))) __builtin_prefetch(rows + first_.at(n) + d);
  }

  /** Turns a head's scores into the weights of its values. */
  void softmax(int64_t i) const {
    float *s = scores_ + i * step_;
    const int64_t count = first_.count, last = count - 1, radius = p_.P / 2;
    if (p_.bias)
      for (int64_t n = 0; n < count; n++) s[n] += p_.bias[(h_ + i) * p_.P + std::max(n - last, -radius) + radius];
    if (p_.segments)
      for (int64_t n = 0; n < count; n++)
        if (p_.segments[(first_.origins ? first_.origins[n] : b_) * p_.C + n] < 0) s[n] = -INFINITY;
    for (int64_t n = count; n < step_; n++) s[n] = -INFINITY;
    const float top = std::max(largest(s, count), -3.402823466e38f);  // finite also where nothing is seen
    vec total = {};
    for (int64_t n = 0; n < count; n += W) {
      const vec e = exponential(load(s + n) - top);
      store(s + n, e);
      total += e;
    }
    const float all = sum(total), share = all == 0 ? 0 : 1 / all;
    for (int64_t n = 0; n < count; n += W) store(s + n, load(s + n) * share);
  }

  const Problem &p_;
  const Head<K> &first_;
  int64_t heads_, b_, h_, step_;
  float *scores_, *sums_;
};

template <class K>
int decode(const T *q, const K *keys, const K *values, const int32_t *position, const float *bias, const int32_t *keySegments,
           const int32_t *origins, T *out, int64_t R, int64_t H, int64_t D, int64_t B, int64_t C, int64_t P, float scale) {
  int64_t most = position ? 0 : C;
  for (int64_t r = 0; r < R; r++) {
    if (position && (position[r] < 0 || position[r] >= C)) return BAD_INDEX;
    if (position) most = std::max<int64_t>(most, position[r] + 1);
    for (int64_t n = 0; origins && n < (position ? position[r] + 1 : C); n++)
      if (origins[r * C + n] < 0 || origins[r * C + n] >= B) return BAD_INDEX;
  }
  const Problem problem{bias, keySegments, C, P};
  // About 64 KiB of keys and values a task: less is not worth waking a thread for.
  const int64_t least = std::max<int64_t>(1, 16384 / (2 * most * D)), even = (R * H + 2 * threadCount() - 1) / (2 * threadCount());
  const int64_t heads = std::min(H, std::max(least, even)), groups = (H + heads - 1) / heads;
  std::atomic<bool> failed{false};
  parallelFor(R * groups, std::max<int64_t>(1, least / heads), [&](int64_t begin, int64_t end) {
    static thread_local Scratch scratch;
    float *room = scratch.floats(Heads<K>::roomOf(heads, most, D));
    if (!room) {
      failed = true;
      return;
    }
    for (int64_t i = begin; i < end; i++) {
      const int64_t r = i / groups, h = i % groups * heads, b = r * B / R, cache = C * H * D;
      const int32_t *from = origins ? origins + r * C : nullptr;
      const int64_t at = (from ? 0 : b * cache) + h * D, to = (r * H + h) * D, count = position ? position[r] + 1 : C;
      const Head<K> first{q + to, keys + at, values + at, from, cache, count, H * D, D, scale};
      Heads<K>(problem, first, std::min(heads, H - h), b, h, room).attend(out + to);
    }
  });
  return failed ? OUT_OF_MEMORY : OK;
}

/** The nearest to x that float16 has a number for. */
inline vec finite(vec x) {
  const vec most = vec{} + 65504.0f;
  x = x > most ? most : x;
  return x < -most ? -most : x;
}

bool outside(const int32_t *position, int64_t R, int64_t C) {
  return std::any_of(position, position + R, [=](int32_t at) { return at < 0 || at >= C; });
}

}  // namespace

KERNEL(attention_decode)(const T *q, const T *keys, const T *values, const int32_t *position, const float *bias,
                         const int32_t *keySegments, const int32_t *origins, T *out, int64_t R, int64_t H, int64_t D,
                         int64_t B, int64_t C, int64_t P, float scale) {
  return decode(q, keys, values, position, bias, keySegments, origins, out, R, H, D, B, C, P, scale);
}

KERNEL(cache_append)(const T *k, const T *v, const int32_t *position, T *keys, T *values, int64_t R, int64_t H,
                     int64_t D, int64_t B, int64_t C) {
  if (outside(position, R, C)) return BAD_INDEX;
  for (int64_t r = 0; r < R; r++) {
    const int64_t to = (r * B / R * C + position[r]) * H * D;
    memcpy(keys + to, k + r * H * D, size_t(H * D) * sizeof(T));
    memcpy(values + to, v + r * H * D, size_t(H * D) * sizeof(T));
  }
  return OK;
}

#if !defined(COMPUTE_BF16)

KERNEL(attention_decode_half)(const float *q, const half *keys, const half *values, const int32_t *position, const float *bias,
                              const int32_t *keySegments, const int32_t *origins, float *out, int64_t R, int64_t H, int64_t D,
                              int64_t B, int64_t C, int64_t P, float scale) {
  return decode(q, keys, values, position, bias, keySegments, origins, out, R, H, D, B, C, P, scale);
}

KERNEL(cache_append_half)(const float *k, const float *v, const int32_t *position, half *keys, half *values, int64_t R,
                          int64_t H, int64_t D, int64_t B, int64_t C) {
  if (position ? outside(position, R, C) : R != B * C) return BAD_INDEX;
  parallelFor(R, 16384 / (H * D) + 1, [=](int64_t begin, int64_t end) {
    for (int64_t r = begin; r < end; r++) {
      const int64_t from = r * H * D, to = position ? (r * B / R * C + position[r]) * H * D : from;
      forVectors(0, H * D, [=](int64_t i, auto part) {
        store(keys + to + i, finite(load(k + from + i, part)), part);
        store(values + to + i, finite(load(v + from + i, part)), part);
      });
    }
  });
  return OK;
}

#endif
