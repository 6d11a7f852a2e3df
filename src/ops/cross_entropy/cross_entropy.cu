// cross_entropy, CUDA. Contract, formulas and sources: cross_entropy.ts in this folder.
//
// A block takes a row. Where the row fits (STAGED), it is copied to shared memory once and read twice from there: for its
// log-sum-exp, and for the gradient that replaces it. The floor is 2 N V sizeof(T) bytes of memory traffic.
#include "log_sum_exp.cuh"

namespace {

constexpr int IGNORED = -100, TERMS = 5;

DEVICE void copyAsync(void *shared, const void *global) {
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16;" ::"r"(unsigned(__cvta_generic_to_shared(shared))),
               "l"(global));
}
DEVICE void waitForCopies() { asm volatile("cp.async.wait_all;" ::: "memory"); }

}  // namespace

extern "C" __global__ void __launch_bounds__(THREADS)
    cross_entropy(const int *labels, const float *dloss, const float *weights, T *logits, float *terms, i64 N, i64 V,
                  float labelSmoothing, float zLoss, float scale, int writeGradient) {
  extern __shared__ uint4 staged[];
  const i64 n = blockIdx.x;
  const bool whole = V % VECTOR == 0 && aligned(logits);
  T *x = logits + n * V;
  const int label = labels[n];
  if (label == IGNORED) {
    if (terms && threadIdx.x < TERMS) terms[n * TERMS + threadIdx.x] = 0;
    if (writeGradient)
      forRow(V, whole, threadIdx.x, THREADS, [=](i64 i, auto count) {
        const float zeros[count.value] = {};
        store(x + i, zeros);
      });
    return;
  }
  // A label outside the vocabulary shows as NaN: a kernel cannot refuse.
  const float atLabel = label >= 0 && label < V ? float(x[label]) : notANumber();

  T *const kept = STAGED ? reinterpret_cast<T *>(staged) : x;
  if constexpr (STAGED) {
    forRow(V, whole, threadIdx.x, THREADS, [=](i64 i, auto count) {
      if constexpr (count.value == 1) kept[i] = x[i];
      else copyAsync(kept + i, x + i);
    });
    waitForCopies();  // each thread reads what it copied itself
  }
  LogSumExp mine;
  float total = 0;
  forRow(V, whole, threadIdx.x, THREADS, [&](i64 i, auto count) {
    float v[count.value];
    load(kept + i, v);
    mine.add(v);
    if (labelSmoothing != 0)
      for (float value : v) total += value;
  });
  const float share = weights ? scale * weights[n] : scale;
  const float lse = mine.acrossRow(), nll = lse - atLabel;

  if (terms) {
    bool earlier = false;
    if (atLabel == mine.most)
      for (i64 v = threadIdx.x; v < label; v += THREADS) earlier |= float(kept[v]) == mine.most;
    const bool isFirstLargest = !__syncthreads_or(earlier) && atLabel == mine.most;
    const float smoothing = labelSmoothing != 0 ? labelSmoothing * (atLabel - acrossBlock<Sum>(total) / V) : 0;
    if (threadIdx.x == 0) {
      const float z = zLoss * lse * lse;
      float *row = terms + n * TERMS;
      row[0] = share * (nll + smoothing + z);
      row[1] = nll;
      row[2] = z;
      row[3] = isFirstLargest;
      row[4] = 1;
    }
  }
  if (!writeGradient) return;
  const float factor = dloss ? share * *dloss : share;
  const float a = factor * (1 + 2 * zLoss * lse), b = factor * labelSmoothing / V;
  const float atLabelGradient = a * exponential(-nll) - b - factor * (1 - labelSmoothing);
  const float shift = lse * -1.44269504f;
  forRow(V, whole, threadIdx.x, THREADS, [=](i64 i, auto count) {
    float v[count.value];
    load(kept + i, v);
    for (float &value : v) value = a * exponential2(value * 1.44269504f + shift) - b;
    if (label >= i && label < i + count.value)
      for (int k = 0; k < count.value; k++) v[k] = i + k == label ? atLabelGradient : v[k];
    store(x + i, v);
  });
}
