// embedding, CUDA. Contracts: embedding.ts in this folder.
//
// The backward pass sorts the positions by id, stably, and adds up runs of equal ids in that order, in pieces of PIECE
// positions so that a frequent id is spread over many blocks: no atomics on values, the same bits every time.
#include "kernel.cuh"

namespace {

constexpr int DIGITS = 256;                        // of one sorting pass
constexpr int WARPS = 8, ROUNDS = 4;               // a sorting block has WARPS warps and takes ROUNDS positions per thread
constexpr int BLOCK = WARPS * WARP * ROUNDS;
constexpr int JOINERS = 16;  // warps that add the parts of one run

/** Ids outside the table sort behind all others, as V. */
DEVICE int keyOf(int id, i64 V) { return id >= 0 && id < V ? id : int(V); }

/** N elements to registers without converting them: fewer registers while they are on the way. */
template <int N> DEVICE void copyRaw(const T *from, T (&to)[N]) {
  if constexpr (N == 1) to[0] = *from;
  else
    for (int k = 0; k < N; k += VECTOR) *reinterpret_cast<uint4 *>(to + k) = *reinterpret_cast<const uint4 *>(from + k);
}

/** Sum of v over the threads before this one of a block of DIGITS threads. */
DEVICE int sumBefore(int v) {
  __shared__ int sums[WARPS];
  const int lane = threadIdx.x % WARP, warp = threadIdx.x / WARP;
  int inclusive = v;
  for (int apart = 1; apart < WARP; apart *= 2) {
    const int other = __shfl_up_sync(ALL_LANES, inclusive, apart);
    if (lane >= apart) inclusive += other;
  }
  if (lane == WARP - 1) sums[warp] = inclusive;
  __syncthreads();
  for (int w = 0; w < warp; w++) inclusive += sums[w];
  return inclusive - v;
}

}  // namespace

// A warp takes a row.
KERNEL embedding_forward(const T *table, const int *ids, T *y, i64 V, i64 D, i64 N) {
  const i64 n = (i64(blockIdx.x) * blockDim.x + threadIdx.x) / WARP;
  if (n >= N) return;
  const int id = ids[n];
  const bool known = id >= 0 && id < V;  // others show as NaN: a kernel cannot refuse
  forRow(D, D % VECTOR == 0 && aligned(table, y), threadIdx.x % WARP, WARP, [=](i64 d, auto count) {
    float v[count.value];
    if (known) load(table + id * D + d, v);
    else
      for (float &value : v) value = notANumber();
    store(y + n * D + d, v);
  });
}

// How often each digit occurs in each block, [blocks, DIGITS]. The first pass takes keys from ids and clears `touched`.
KERNEL embedding_count(const int *ids, const int *keys, int *counts, int *touched, i64 N, i64 V) {
  __shared__ int count[DIGITS];
  count[threadIdx.x] = 0;
  __syncthreads();
  const i64 first = i64(blockIdx.x) * BLOCK;
  for (i64 n = first + threadIdx.x; n < first + BLOCK && n < N; n += blockDim.x) {
    const int key = SHIFT == 0 ? keyOf(ids[n], V) : keys[n];
    atomicAdd(count + (key >> SHIFT) % DIGITS, 1);  // integers: the order does not matter
  }
  if (SHIFT == 0)
    for (i64 v = i64(blockIdx.x) * blockDim.x + threadIdx.x; v < V; v += i64(gridDim.x) * blockDim.x) touched[v] = 0;
  __syncthreads();
  counts[i64(blockIdx.x) * DIGITS + threadIdx.x] = count[threadIdx.x];
}

// One stable sorting pass: warps own consecutive positions and place them in order.
KERNEL embedding_scatter(const int *ids, const int *keys, const int *order, const int *counts, int *nextKeys,
                         int *nextOrder, i64 N, i64 V) {
  __shared__ int next[WARPS][DIGITS + 1];  // where the warp's next key of a digit goes; one for positions past the end
  const int warp = threadIdx.x / WARP, lane = threadIdx.x % WARP;
  for (int digit = lane; digit <= DIGITS; digit += WARP) next[warp][digit] = 0;
  __syncwarp();
  const i64 first = i64(blockIdx.x) * BLOCK + warp * WARP * ROUNDS + lane;
  int key[ROUNDS], position[ROUNDS], rank[ROUNDS];
#pragma unroll
  for (int r = 0; r < ROUNDS; r++) {
    const i64 n = first + r * WARP;
    key[r] = n >= N ? 0 : SHIFT == 0 ? keyOf(ids[n], V) : keys[n];
    position[r] = n >= N ? -1 : SHIFT == 0 ? int(n) : order[n];
    const int digit = position[r] < 0 ? DIGITS : (key[r] >> SHIFT) % DIGITS;
    const unsigned same = __match_any_sync(ALL_LANES, digit);
    rank[r] = next[warp][digit] + __popc(same & ((1u << lane) - 1));
    __syncwarp();
    if (lane == __ffs(same) - 1) next[warp][digit] += __popc(same);
    __syncwarp();
  }
  // Where this block's keys of digit threadIdx.x go: behind all smaller digits and behind those of earlier blocks.
  int all = 0, earlier = 0;
#pragma unroll 8
  for (int b = 0; b < gridDim.x; b++) {
    const int count = counts[i64(b) * DIGITS + threadIdx.x];
    all += count;
    earlier += b < blockIdx.x ? count : 0;
  }
  int place = sumBefore(all) + earlier;  // its barrier stands before the reading of `next` too
  for (int w = 0; w < WARPS; w++) {
    const int count = next[w][threadIdx.x];
    next[w][threadIdx.x] = place;
    place += count;
  }
  __syncthreads();
#pragma unroll
  for (int r = 0; r < ROUNDS; r++) {
    if (position[r] < 0) continue;
    const int to = next[warp][(key[r] >> SHIFT) % DIGITS] + rank[r];
    nextKeys[to] = key[r];
    nextOrder[to] = position[r];
  }
}

// Sums of the runs of equal keys inside each piece. Whole runs go to the table; the part of a run that began in an
// earlier piece goes to heads [pieces, D], that of one that goes on in the next to tails.
KERNEL embedding_sum(const T *dy, const int *keys, const int *order, float *dtable, float *heads, float *tails,
                     int *touched, i64 N, i64 D, i64 V, float beta) {
  __shared__ int key[PIECE], row[PIECE];
  const i64 begin = i64(blockIdx.x) * PIECE;
  const int count = int(begin + PIECE < N ? PIECE : N - begin);
  for (int j = threadIdx.x; j < count; j += blockDim.x) {
    key[j] = keys[begin + j];
    row[j] = order[begin + j];
  }
  const bool startsInside = begin == 0 || keys[begin - 1] != keys[begin];
  const bool endsInside = begin + count == N || keys[begin + count - 1] != keys[begin + count];
  __syncthreads();
  const i64 d = (i64(blockIdx.y) * blockDim.x + threadIdx.x) * EACH;
  if (d >= D) return;
  constexpr int AHEAD = 8;  // rows fetched together, as they lie in memory
  float sum[EACH] = {};
  bool isFirstRun = true;
  for (int j0 = 0; j0 < count; j0 += AHEAD) {
    alignas(16) T rows[AHEAD][EACH];
#pragma unroll
    for (int a = 0; a < AHEAD; a++)
      if (j0 + a < count) copyRaw(dy + row[j0 + a] * D + d, rows[a]);
#pragma unroll
    for (int a = 0; a < AHEAD; a++) {
      const int j = j0 + a;
      if (j >= count) break;
      float v[EACH];
      load(rows[a], v);
      for (int k = 0; k < EACH; k++) sum[k] += v[k];
      const bool isLast = j + 1 == count;
      if (!isLast && key[j + 1] == key[j]) continue;
      const int id = key[j];
      if (id < V) {
        if (d == 0) touched[id] = 1;
        const bool whole = (startsInside || !isFirstRun) && (endsInside || !isLast);
        if (whole) {
          float old[EACH];
          if (beta != 0) {
            load(dtable + id * D + d, old);
            for (int k = 0; k < EACH; k++) sum[k] += beta * old[k];
          }
          store(dtable + id * D + d, sum);
        } else {
          store((startsInside || !isFirstRun ? tails : heads) + blockIdx.x * D + d, sum);
        }
      }
      for (float &s : sum) s = 0;
      isFirstRun = false;
    }
  }
}

// Adds the parts of the run that starts in a piece and ends in a later one. JOINERS warps share the pieces, each lane has
// EACH columns.
KERNEL embedding_join(const int *keys, const float *heads, const float *tails, float *dtable, i64 N, i64 D, i64 V,
                      float beta) {
  __shared__ float parts[JOINERS][WARP * EACH];
  const i64 begin = i64(blockIdx.x) * PIECE, end = begin + PIECE;
  if (end >= N) return;
  const int id = keys[end - 1];
  if (id >= V || keys[end] != id) return;
  if (keys[begin] == id && begin > 0 && keys[begin - 1] == id) return;  // it started earlier
  const int warp = threadIdx.x / WARP, lane = threadIdx.x % WARP;
  const i64 d = (i64(blockIdx.y) * WARP + lane) * EACH;
  float sum[EACH] = {}, v[EACH];
  if (d < D)
#pragma unroll 4
    for (i64 piece = blockIdx.x + 1 + warp; piece * PIECE < N && keys[piece * PIECE] == id; piece += JOINERS) {
      load(heads + piece * D + d, v);
      for (int k = 0; k < EACH; k++) sum[k] += v[k];
    }
  for (int k = 0; k < EACH; k++) parts[warp][lane * EACH + k] = sum[k];
  __syncthreads();
  if (warp > 0 || d >= D) return;
  load(tails + blockIdx.x * D + d, sum);
  for (int w = 0; w < JOINERS; w++)
    for (int k = 0; k < EACH; k++) sum[k] += parts[w][lane * EACH + k];
  if (beta != 0) {
    load(dtable + id * D + d, v);
    for (int k = 0; k < EACH; k++) sum[k] += beta * v[k];
  }
  store(dtable + id * D + d, sum);
}

// Rows that no id names. A warp takes a row.
KERNEL embedding_rest(const int *touched, float *dtable, i64 D, i64 V, float beta) {
  const i64 row = (i64(blockIdx.x) * blockDim.x + threadIdx.x) / WARP;
  if (row >= V || touched[row]) return;
  forRow(D, D % VECTOR == 0 && aligned(dtable), threadIdx.x % WARP, WARP, [=](i64 d, auto n) {
    float v[n.value] = {};
    if (beta != 0) {
      load(dtable + row * D + d, v);
      for (float &value : v) value *= beta;
    }
    store(dtable + row * D + d, v);
  });
}
