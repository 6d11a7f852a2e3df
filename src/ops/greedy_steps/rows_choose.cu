// greedy_steps for many rows: the choice of the tokens and what follows from it, a block per row. CANDIDATES: of a row,
// in `best`.
#include "ahead.cuh"
#include "choice.cuh"

namespace {

/** The residual stream begins as the token's row of the embedding; others than the table's show as NaN. */
DEVICE void embed(const T *embedding, int token, i64 V, i64 M, T *x) {
  const bool known = token >= 0 && token < V;
  for (i64 i = threadIdx.x; i < M; i += blockDim.x) x[i] = known ? embedding[token * M + i] : T(notANumber());
}

}  // namespace

KERNEL rows_embed(const T *embedding, const int *token, T *x, i64 V, i64 M) {
  letNextBegin();
  waitForEarlier();
  embed(embedding, token[blockIdx.x], V, M, x + blockIdx.x * M);
}

/** The best of every row's `count` candidates is its next token, as in the op `advance`, and is embedded. */
KERNEL rows_choose(const Key *best, const int *eos, int *token, int *ended, int *position, int *history,
                   const T *embedding, T *x, i64 V, i64 M, i64 E, i64 C, int pad) {
  letNextBegin();
  waitForEarlier();
  __shared__ int next;
  const i64 r = blockIdx.x, count = CANDIDATES;
  Key key = 0;
  for (i64 i = threadIdx.x; i < count; i += blockDim.x) key = LargestKey::of(key, best[r * count + i]);
  key = acrossBlock<LargestKey>(key);
  if (threadIdx.x == 0) {
    int id = token[r];
    const int at = position[r];
    if (at < C) {
      id = ended[r] ? pad : indexOf(key);
      history[r * C + at] = id;
      position[r] = at + 1;
      token[r] = id;
      for (i64 e = 0; e < E; e++)
        if (id == eos[e]) ended[r] = 1;
    }
    next = id;
  }
  __syncthreads();
  embed(embedding, next, V, M, x + r * M);
}
