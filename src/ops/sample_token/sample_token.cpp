// sample_token, CPU. Contract: sample_token.ts in this folder.
#include <algorithm>
#include "kernel.h"
#include "scratch.h"

namespace {

/** The ids of a row that are left, and by id their scores and what they weigh. */
struct Choice {
  const float *scores;
  float *masses;
  int32_t *ids;
  int64_t count;
  float most;

  /** What the ids weigh. */
  double sum() const {
    double total = 0;
    for (int64_t i = 0; i < count; i++) total += masses[ids[i]];
    return total;
  }
};

constexpr int64_t FIRST_SORTED = 256;

/** Leaves the first ids in order that weigh at least `goal`: sorts no more than that takes. */
template <class Before> void keepHeaviest(Choice &choice, double goal, const Before &before) {
  int32_t *const ids = choice.ids, *const end = ids + choice.count;
  double sum = 0;
  int64_t i = 0;
  for (int64_t sorted = 0; i < choice.count && sum < goal;) {
    const int64_t next = std::min(choice.count, std::max(FIRST_SORTED, 4 * sorted));
    if (next < choice.count) std::nth_element(ids + sorted, ids + next - 1, end, before);
    std::sort(ids + sorted, ids + next, before);
    for (sorted = next; i < sorted && sum < goal; i++) sum += choice.masses[ids[i]];
  }
  choice.count = i;
}

int32_t sample(Choice choice, const float *options, uint32_t high, uint32_t low) {
  const auto k = int64_t(options[1]);
  const float p = options[2], least = options[3];
  const auto before = [&](int32_t a, int32_t b) {
    const float x = choice.scores[a], y = choice.scores[b];
    return x != y ? x > y : a > b;
  };
  int32_t *ids = choice.ids;
  const bool inOrder = !(k > 0 && k < choice.count) && !(p < 1);
  if (k > 0 && k < choice.count) {
    std::nth_element(ids, ids + k - 1, ids + choice.count, before);
    const float last = choice.scores[ids[k - 1]];
    choice.count = std::partition(ids, ids + choice.count, [&](int32_t v) { return choice.scores[v] >= last; }) - ids;
  }
  for (int64_t i = 0; i < choice.count; i++)
    choice.masses[ids[i]] = float(exp(double(choice.scores[ids[i]]) - double(choice.most)));
  if (p < 1) keepHeaviest(choice, p * choice.sum(), before);
  int64_t count = 0;
  for (int64_t i = 0; i < choice.count; i++)
    if (choice.masses[ids[i]] >= least) ids[count++] = ids[i];
  choice.count = count;
  if (!inOrder) std::sort(ids, ids + count);
  const double u = (double(high >> 6) * 0x1p26 + double(low >> 6) + 0.5) * 0x1p-52;
  double rest = u * choice.sum();
  for (int64_t i = 0; i < count; i++)
    if ((rest -= choice.masses[ids[i]]) < 0) return ids[i];
  return count > 0 ? ids[count - 1] : 0;
}

}  // namespace

KERNEL(sample_token)(const T *logits, const float *options, const int32_t *position, const int32_t *words,
                     int32_t *chosen, int64_t R, int64_t V, int64_t C) {
  for (int64_t r = 0; r < R; r++)
    if (position[r] < 0) return BAD_INDEX;
  static thread_local Scratch scratch;
  float *memory = scratch.floats(3 * R * V);
  if (!memory) return OUT_OF_MEMORY;
  parallelFor(R, 1, [=](int64_t begin, int64_t end) {
    for (int64_t r = begin; r < end; r++) {
      float *scores = memory + 3 * r * V;
      Choice choice{scores, scores + V, reinterpret_cast<int32_t *>(scores + 2 * V), 0, -INFINITY};
      for (int64_t v = 0; v < V; v++) {
        scores[v] = float(logits[r * V + v]) / options[0];
        if (!(scores[v] > -INFINITY)) continue;
        choice.ids[choice.count++] = int32_t(v);
        choice.most = std::max(choice.most, scores[v]);
      }
      const int32_t *pair = words + 2 * (r * C + std::min<int64_t>(position[r], C - 1));
      chosen[r] = sample(choice, options, uint32_t(pair[0]), uint32_t(pair[1]));
    }
  });
  return OK;
}
