// top_k, CUDA. Contract: top_k.ts in this folder.
//
// A block takes a row. Every element has a key, larger for larger values and among equal ones for lower indices, so keys
// are all different. The K-th largest of the largest keys that groups of GROUP threads have seen bounds the K-th largest of
// the row from below; the few elements from there on are collected and each finds its rank by counting the larger ones.
#include "kernel.cuh"

namespace {

using Key = unsigned long long;

DEVICE Key keyOf(float v, i64 index) {
  const unsigned bits = __float_as_uint(v + 0.0f);  // -0 becomes 0
  const unsigned ordered = v != v ? 0 : bits & 0x80000000u ? ~bits : bits | 0x80000000u;
  return Key(ordered) << 32 | unsigned(~unsigned(index));
}

struct LargestKey {
  static DEVICE Key of(Key a, Key b) { return a > b ? a : b; }
  static DEVICE Key none() { return 0; }
};

/** body(key) for this thread's elements. */
template <class Body> DEVICE void forKeys(const T *row, i64 V, bool whole, const Body &body) {
  forRow(V, whole, threadIdx.x, THREADS, [&](i64 i, auto n) {
    float v[n.value];
    load(row + i, v);
    for (int k = 0; k < n.value; k++) body(keyOf(v[k], i + k));
  });
}

}  // namespace

KERNEL top_k(const T *x, float *values, int *ids, i64 N, i64 V, i64 K, Key *candidates) {
  constexpr int GROUPS = THREADS / GROUP;
  __shared__ Key largest[GROUPS];
  __shared__ Key bound;
  __shared__ int count;
  const i64 n = blockIdx.x;
  const T *row = x + n * V;
  values += n * K;
  ids += n * K;
  candidates += n * CAPACITY;
  const bool whole = V % VECTOR == 0 && aligned(x);
  const auto put = [=](i64 rank, Key key) {
    const int id = int(~unsigned(key));
    values[rank] = float(row[id]);
    ids[rank] = id;
  };

  Key mine = 0;
  forKeys(row, V, whole, [&](Key key) { mine = LargestKey::of(key, mine); });
  if (K == 1) {
    const Key most = acrossBlock<LargestKey>(mine);
    if (threadIdx.x == 0) put(0, most);
    return;
  }
  const Key ours = acrossLanes<LargestKey, GROUP>(mine);
  if (threadIdx.x % GROUP == 0) largest[threadIdx.x / GROUP] = ours;
  if (threadIdx.x == 0) {
    bound = 0;  // stays so when fewer than K groups have elements
    count = 0;
  }
  __syncthreads();
  if (threadIdx.x < GROUPS) {
    const Key candidate = largest[threadIdx.x];
    i64 above = 0;
    for (int g = 0; g < GROUPS; g++) above += largest[g] > candidate;
    if (above == K - 1 && candidate > 0) bound = candidate;
  }
  __syncthreads();
  if (mine >= bound)
    forKeys(row, V, whole, [&](Key key) {
      if (key >= bound) candidates[atomicAdd(&count, 1)] = key;  // in any order: ranks come from the keys
    });
  __syncthreads();
  for (int c = threadIdx.x; c < count; c += THREADS) {
    const Key key = candidates[c];
    i64 rank = 0;
    for (int other = 0; other < count && rank < K; other++) rank += candidates[other] > key;
    if (rank < K) put(rank, key);
  }
}
