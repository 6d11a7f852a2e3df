// beam_step, CPU. Contract: beam_step.ts in this folder.
#include "kernel.h"

#include <algorithm>
#include <limits>

namespace {

constexpr float OUT = -1e9f;
constexpr int64_t MOST = 2048;  // MOST_LOOKED_AT of beam_step.ts

struct Candidate {
  float score;
  int32_t beam, token;
  bool ended;
};
struct Found {
  int32_t place, beam, token, ended;
  float score;
};

/** The `count` best of `all` at its beginning, best first, equal ones in order. */
template <class X, class Better> void sortBest(X *all, int64_t length, int64_t count, const Better &better) {
  for (int64_t i = 1; i < length; i++) {
    const X one = all[i];
    if (i >= count && !better(one, all[count - 1])) continue;
    int64_t k = std::min(i, count - 1);
    for (; k > 0 && better(one, all[k - 1]); k--) all[k] = all[k - 1];
    all[k] = one;
  }
}

constexpr auto higher = [](const auto &a, const auto &b) { return a.score > b.score; };

}  // namespace

KERNEL(beam_step)(const float *values, const int32_t *ids, const int32_t *eos, const float *powers,
                  const int32_t *settings, int32_t *token, float *score, int32_t *position, int32_t *origins,
                  int32_t *history, int32_t *parents, int32_t *found, float *foundScore, int32_t *state, int64_t R,
                  int64_t M, int64_t E, int64_t, int64_t C, int64_t B) {
  const int64_t K = R / B, width = std::min(std::max<int64_t>(2, 1 + E) * K, K * M);
  const int32_t max_length = settings[0], prompt = settings[1], early = settings[2];
  for (int64_t b = 0; b < B; b++) {
    const int64_t first = b * K, p = position[first], length = p + 2;
    int32_t &done = state[2 * b], &hopeless = state[2 * b + 1];
    if (done || p >= C) continue;
    if (p + 1 < prompt) {
      std::fill_n(position + first, K, int32_t(p + 1));
      continue;
    }
    Candidate candidates[MOST], open[MOST];
    for (int64_t i = 0; i < K * M; i++)
      candidates[i] = {score[first + i / M] + values[first * M + i], int32_t(i / M), ids[first * M + i], false};
    sortBest(candidates, K * M, width, [](const Candidate &x, const Candidate &y) {
      return x.score > y.score || (x.score == y.score && x.beam == y.beam && x.token < y.token);
    });
    bool all = true, full = early == 1;
    for (int64_t i = 0; i < width; i++) {
      candidates[i].ended = length >= max_length || std::find(eos, eos + E, candidates[i].token) != eos + E;
      all &= candidates[i].ended;
    }

    Found best[2 * MOST];
    int64_t count = 0;
    const auto keep = [&](bool ended) {
      for (int64_t k = 0; k < K; k++) {
        const int32_t *f = found + 4 * (first + k);
        if ((f[3] != 0) == ended) best[count++] = {f[0], f[1], f[2], ended, foundScore[first + k]};
      }
    };
    keep(true);
    full &= count == K;
    for (int64_t i = 0; i < width; i++) {
      const Candidate &c = candidates[i];
      const bool ended = c.ended && i < K;
      float own = c.score / powers[length - prompt];
      if (hopeless) own += OUT;
      if (full) own += OUT;
      if (!ended) own += OUT;
      best[count++] = {int32_t(p), c.beam, c.token, ended, own};
    }
    keep(false);
    sortBest(best, count, K, higher);
    for (int64_t i = 0; i < width; i++) {
      open[i] = candidates[i];
      if (open[i].ended) open[i].score += OUT;
    }
    sortBest(open, width, K, higher);

    const float reachable = open[0].score / powers[(early == 2 ? max_length : length) - prompt];
    float worst = std::numeric_limits<float>::infinity();
    bool improves = false, filled = early == 1;
    for (int64_t k = 0; k < K; k++) {
      worst = std::min(worst, best[k].score);
      filled &= best[k].ended != 0;
    }
    for (int64_t k = 0; k < K; k++) improves |= reachable > (best[k].ended ? worst : OUT);
    if (!improves) hopeless = 1;
    if (hopeless || filled || all) done = 1;

    for (int64_t k = 0; k < K; k++) {
      const int64_t r = first + k;
      const Found &f = best[k];
      const int32_t fields[] = {f.place, f.beam, f.token, f.ended};
      std::copy_n(fields, 4, found + 4 * r);
      foundScore[r] = f.score;
      history[r * C + p] = open[k].token;
      parents[r * C + p] = open[k].beam;
      token[r] = open[k].token;
      score[r] = open[k].score;
      position[r] = int32_t(p + 1);
    }
    int32_t past[MOST];
    for (int64_t n = 0; n <= p; n++) {
      for (int64_t k = 0; k < K; k++) past[k] = origins[(first + open[k].beam) * C + n];
      for (int64_t k = 0; k < K; k++) origins[(first + k) * C + n] = past[k];
    }
  }
  return OK;
}
