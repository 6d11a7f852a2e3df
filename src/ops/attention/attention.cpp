// attention, CPU. Contract, formulas and source: attention.ts in this folder.
#include <algorithm>
#include <vector>
#include "philox.h"
#include "kernel.h"

namespace {

struct Problem {
  const T *q, *k, *v;
  const float *bias, *dense;
  const int32_t *querySegments, *keySegments, *queryPositions, *keyPositions, *rng;
  int64_t B, M, H, D, N, P, E, G;
  float scale;
  bool causal;
  int64_t queryOffset;
  float dropout;
  int32_t site;

  int64_t query(int64_t b, int64_t h, int64_t m) const { return ((b * M + m) * H + h) * D; }
  int64_t key(int64_t b, int64_t h, int64_t n) const { return ((b * N + n) * H + h) * D; }
  int64_t biasIndex(int64_t h, int64_t m, int64_t n) const {
    const int64_t radius = P / 2;
    const int64_t rel = (keyPositions ? keyPositions[n] : n) - (queryPositions ? queryPositions[m] : m + queryOffset);
    return h * P + std::max(-radius, std::min(radius, rel)) + radius;
  }
  int64_t denseIndex(int64_t b, int64_t h, int64_t m) const { return ((E == 1 ? 0 : b) * G + (G == 1 ? 0 : h)) * M + m; }

  /** Row (b, h, m) of scores; -infinity where the key is not seen. */
  void scores(int64_t b, int64_t h, int64_t m, float *s) const {
    const T *qm = q + query(b, h, m);
    for (int64_t n = 0; n < N; n++) {
      const int32_t segment = keySegments ? keySegments[b * N + n] : 0;
      const bool sees = segment >= 0 && !(causal && n > m + queryOffset) &&
                        !(querySegments && keySegments && querySegments[b * M + m] != segment);
      float score = -INFINITY;
      if (sees) {
        const T *kn = k + key(b, h, n);
        float dot = 0;
        for (int64_t d = 0; d < D; d++) dot += float(qm[d]) * float(kn[d]);
        score = dot * scale;
        if (bias) score += bias[biasIndex(h, m, n)];
        if (dense) score += dense[denseIndex(b, h, m) * N + n];
      }
      s[n] = score;
    }
  }

  /** What dropout multiplies the probabilities of row (b, h, m) by. */
  void factors(int64_t b, int64_t h, int64_t m, float *f) const {
    if (!rng || !(dropout > 0)) {
      for (int64_t n = 0; n < N; n++) f[n] = 1;
      return;
    }
    const int64_t first = ((b * H + h) * M + m) * N;
    uint32_t words[4 * PHILOX_LANES];
    for (int64_t n = 0; n < N;) {
      const int64_t block = (first + n) / 4;
      philoxBlocks(rng, site, block, words);
      for (int64_t i = first + n - 4 * block; i < 4 * PHILOX_LANES && n < N; i++, n++)
        f[n] = words[i] >= dropThreshold(dropout) ? 1 / (1 - dropout) : 0;
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
  parallelFor(B * H * M, 16, [&](int64_t begin, int64_t end) {
    std::vector<float> s(N), f(N), sum(D);
    for (int64_t row = begin; row < end; row++) {
      const int64_t b = row / (H * M), h = row / M % H, m = row % M;
      p.scores(b, h, m, s.data());
      p.factors(b, h, m, f.data());
      float top = -INFINITY, total = 0;
      for (float x : s) top = std::max(top, x);
      const bool seen = top > -INFINITY;
      for (int64_t d = 0; d < D; d++) sum[d] = 0;
      for (int64_t n = 0; seen && n < N; n++) {
        const float e = expf(s[n] - top);
        total += e;
        for (int64_t d = 0; d < D; d++) sum[d] += e * f[n] * float(v[p.key(b, h, n) + d]);
      }
      lse[row] = seen ? top + logf(total) : top;
      for (int64_t d = 0; d < D; d++) out[p.query(b, h, m) + d] = seen ? sum[d] / total : 0;
    }
  });
  return OK;
}

KERNEL(attention_backward)(const T *dout, const T *q, const T *k, const T *v, const T *out, const float *lse,
                           const float *bias, const float *dense, const int32_t *querySegments,
                           const int32_t *keySegments, const int32_t *queryPositions, const int32_t *keyPositions,
                           const int32_t *rng, T *dq, T *dk, T *dv, float *dbias, float *ddense, int64_t B, int64_t M,
                           int64_t H, int64_t D, int64_t N, int64_t P, int64_t E, int64_t G, float scale,
                           int32_t causal, int32_t queryOffset, float dropout, int32_t site) {
  const Problem p{q, k, v, bias, dense, querySegments, keySegments, queryPositions, keyPositions, rng, B, M, H, D, N,
                  P, E, G, scale, causal != 0, queryOffset, dropout, site};
  std::vector<float> biasParts(dbias ? B * H * P : 0);
  auto head = [&](int64_t b, int64_t h) {
    std::vector<float> s(N), f(N), sum(D), sumK(N * D), sumV(N * D);
    for (int64_t m = 0; m < M; m++) {
      const float l = lse[(b * H + h) * M + m];
      p.scores(b, h, m, s.data());
      p.factors(b, h, m, f.data());
      const int64_t at = p.query(b, h, m);
      float delta = 0;
      for (int64_t d = 0; d < D; d++) delta += float(dout[at + d]) * float(out[at + d]), sum[d] = 0;
      for (int64_t n = 0; n < N; n++) {
        if (s[n] == -INFINITY || l == -INFINITY) continue;
        const float prob = expf(s[n] - l);
        const T *kn = k + p.key(b, h, n), *vn = v + p.key(b, h, n);
        float dp = 0;
        for (int64_t d = 0; d < D; d++) dp += float(dout[at + d]) * float(vn[d]);
        const float ds = prob * (f[n] * dp - delta);
        for (int64_t d = 0; d < D; d++) {
          sum[d] += ds * float(kn[d]);
          sumK[n * D + d] += ds * float(q[at + d]);
          sumV[n * D + d] += prob * f[n] * float(dout[at + d]);
        }
        if (dbias) biasParts[b * H * P + p.biasIndex(h, m, n)] += ds;
        if (ddense) ddense[p.denseIndex(b, h, m) * N + n] += ds;
      }
      for (int64_t d = 0; d < D; d++) dq[at + d] = sum[d] * scale;
    }
    for (int64_t n = 0; n < N; n++)
      for (int64_t d = 0; d < D; d++) {
        dk[p.key(b, h, n) + d] = sumK[n * D + d] * scale;
        dv[p.key(b, h, n) + d] = sumV[n * D + d];
      }
  };
  if (ddense) {  // planes may be shared: one after the other
    memset(ddense, 0, size_t(E * G * M * N) * sizeof(float));
    for (int64_t b = 0; b < B; b++)
      for (int64_t h = 0; h < H; h++) head(b, h);
  } else {
    parallelFor(B * H, 1, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; i++) head(i / H, i % H);
    });
  }
  if (dbias)
    for (int64_t i = 0; i < H * P; i++) {
      dbias[i] = 0;
      for (int64_t b = 0; b < B; b++) dbias[i] += biasParts[b * H * P + i];
    }
  return OK;
}
