// beam_step, CUDA: one block per source; everything is put in order by counting what comes before it. Contract: beam_step.ts in
// this folder.
#include "kernel.cuh"

namespace {

constexpr int LOOKED_AT = BEAMS * EACH;
constexpr int WIDTH = (ENDS > 1 ? 1 + ENDS : 2) * BEAMS < LOOKED_AT ? (ENDS > 1 ? 1 + ENDS : 2) * BEAMS : LOOKED_AT;
constexpr float OUT = -1e9f;

struct Candidate {
  float score;
  int beam, token, ended;
};
/** A row of `found`, and its score. */
struct Found {
  int place, beam, token, ended;
  float score;
};
/** What is sorted: by falling score, then by rising order. */
struct Ranked {
  float score;
  int order;
};

DEVICE bool isBefore(Ranked a, Ranked b) { return a.score > b.score || (a.score == b.score && a.order < b.order); }

/** How many of `count` come before `one`. */
DEVICE int rankOf(const Ranked *all, int count, Ranked one) {
  int rank = 0;
  for (int i = 0; i < count; i++) rank += isBefore(all[i], one);
  return rank;
}

}  // namespace

KERNEL beam_step(const float *values, const int *ids, const int *eos, const float *powers, const int *settings, int *token,
                 float *score, int *position, int *origins, int *history, int *parents, int *found, float *foundScore,
                 int *state, i64 R, i64 M, i64 E, i64 L, i64 C, i64 B) {
  __shared__ float sums[LOOKED_AT];
  __shared__ int tokens[LOOKED_AT];
  __shared__ Candidate candidates[WIDTH];
  __shared__ Ranked ranked[WIDTH + BEAMS];
  __shared__ Candidate open[BEAMS];
  __shared__ Found before[BEAMS], after[BEAMS];
  const i64 first = i64(blockIdx.x) * BEAMS;
  const int p = position[first], max_length = settings[0], prompt = settings[1], early = settings[2];
  int *done = state + 2 * blockIdx.x, *hopeless = done + 1;
  if (*done || p >= C) return;
  if (p + 1 < prompt) {
    __syncthreads();  // all have read the position
    for (int k = threadIdx.x; k < BEAMS; k += THREADS) position[first + k] = p + 1;
    return;
  }
  const int length = p + 2;
  const bool wasHopeless = *hopeless;

  for (int i = threadIdx.x; i < LOOKED_AT; i += THREADS) {
    sums[i] = score[first + i / EACH] + values[first * EACH + i];
    tokens[i] = ids[first * EACH + i];
  }
  for (int i = threadIdx.x; i < WIDTH; i += THREADS) candidates[i] = {-infinity(), 0, 0, 0};  // for NaN, which has no rank
  for (int k = threadIdx.x; k < BEAMS; k += THREADS) {
    const int *f = found + 4 * (first + k);
    before[k] = {f[0], f[1], f[2], f[3], foundScore[first + k]};
    after[k] = before[k];
    open[k] = {-infinity(), 0, 0, 0};
  }
  __syncthreads();
  for (int i = threadIdx.x; i < LOOKED_AT; i += THREADS) {
    int rank = 0;
    for (int o = 0; o < LOOKED_AT; o++)
      rank += sums[o] > sums[i] || (sums[o] == sums[i] && (o / EACH < i / EACH || (o / EACH == i / EACH && tokens[o] < tokens[i])));
    if (rank >= WIDTH) continue;
    bool ends = length >= max_length;
    for (i64 e = 0; e < E; e++) ends |= tokens[i] == eos[e];
    candidates[rank] = {sums[i], i / EACH, tokens[i], ends};
  }
  __syncthreads();

  bool full = early == 1;
  for (int k = 0; k < BEAMS; k++) full &= before[k].ended != 0;
  const auto finishes = [&](int i) { return i < BEAMS && candidates[i].ended; };
  for (int i = threadIdx.x; i < WIDTH + BEAMS; i += THREADS) {
    if (i < WIDTH) {
      float own = candidates[i].score / powers[length - prompt];
      if (wasHopeless) own += OUT;
      if (full) own += OUT;
      if (!finishes(i)) own += OUT;
      ranked[i] = {own, BEAMS + i};
    } else {
      const int k = i - WIDTH;
      ranked[i] = {before[k].score, before[k].ended ? k : BEAMS + WIDTH + k};
    }
  }
  __syncthreads();
  for (int i = threadIdx.x; i < WIDTH + BEAMS; i += THREADS) {
    const int rank = rankOf(ranked, WIDTH + BEAMS, ranked[i]);
    if (rank >= BEAMS) continue;
    if (i < WIDTH) after[rank] = {p, candidates[i].beam, candidates[i].token, finishes(i), ranked[i].score};
    else after[rank] = before[i - WIDTH];
  }
  __syncthreads();
  for (int i = threadIdx.x; i < WIDTH; i += THREADS)
    ranked[i] = {candidates[i].ended ? candidates[i].score + OUT : candidates[i].score, i};
  __syncthreads();
  for (int i = threadIdx.x; i < WIDTH; i += THREADS) {
    const int rank = rankOf(ranked, WIDTH, ranked[i]);
    if (rank < BEAMS) open[rank] = {ranked[i].score, candidates[i].beam, candidates[i].token, 0};
  }
  __syncthreads();

  for (int k = threadIdx.x; k < BEAMS; k += THREADS) {
    const i64 r = first + k;
    int *f = found + 4 * r;
    f[0] = after[k].place;
    f[1] = after[k].beam;
    f[2] = after[k].token;
    f[3] = after[k].ended;
    foundScore[r] = after[k].score;
    history[r * C + p] = open[k].token;
    parents[r * C + p] = open[k].beam;
    token[r] = open[k].token;
    score[r] = open[k].score;
    position[r] = p + 1;
  }
  for (int n = threadIdx.x; n <= p; n += THREADS) {
    int past[BEAMS];
#pragma unroll
    for (int k = 0; k < BEAMS; k++) past[k] = origins[(first + open[k].beam) * C + n];
#pragma unroll
    for (int k = 0; k < BEAMS; k++) origins[(first + k) * C + n] = past[k];
  }
  if (threadIdx.x > 0) return;
  const float reachable = open[0].score / powers[(early == 2 ? max_length : length) - prompt];
  float worst = infinity();
  bool filled = early == 1, all = true, improves = false;
  for (int k = 0; k < BEAMS; k++) {
    worst = fminf(worst, after[k].score);
    filled &= after[k].ended != 0;
  }
  for (int k = 0; k < BEAMS; k++) improves |= reachable > (after[k].ended ? worst : OUT);
  for (int i = 0; i < WIDTH; i++) all &= candidates[i].ended != 0;
  if (!improves) *hopeless = 1;
  if (!improves || wasHopeless || filled || all) *done = 1;
}
