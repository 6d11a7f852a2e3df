// relative_bias, CPU. Contract, formula and source: relative_bias.ts in this folder.
#include "kernel.h"

namespace {

struct Buckets {
  int64_t total;
  bool bidirectional;
  int64_t maxDistance;

  // The logarithm is rounded from double: float libraries differ in its last bit, and buckets begin there.
  int64_t of(int64_t relative) const {
    const int64_t count = bidirectional ? total / 2 : total;
    const int64_t base = bidirectional && relative > 0 ? count : 0;
    const int64_t distance = relative > 0 ? (bidirectional ? relative : 0) : -relative;
    const int64_t exact = count / 2;
    if (distance < exact) return base + distance;
    if (maxDistance <= exact) return base + count - 1;
    const float position = float(log(double(float(double(distance) / exact))));
    const float share = position / float(log(double(maxDistance) / exact));
    const int64_t bucket = exact + int64_t(share * float(count - exact));
    return base + (bucket < count - 1 ? bucket : count - 1);
  }
};

}  // namespace

KERNEL(relative_bias_forward)(const T *table, float *bias, int64_t U, int64_t H, int64_t P, int32_t bidirectional,
                              int32_t maxDistance) {
  const Buckets buckets{U, bidirectional != 0, maxDistance};
  for (int64_t i = 0; i < P; i++) {
    const T *row = table + buckets.of(i - P / 2) * H;
    for (int64_t h = 0; h < H; h++) bias[h * P + i] = row[h];
  }
  return OK;
}

KERNEL(relative_bias_backward)(const float *dbias, float *dtable, int64_t H, int64_t P, int64_t U,
                               int32_t bidirectional, int32_t maxDistance) {
  const Buckets buckets{U, bidirectional != 0, maxDistance};
  for (int64_t i = 0; i < U * H; i++) dtable[i] = 0;
  for (int64_t i = 0; i < P; i++) {
    float *row = dtable + buckets.of(i - P / 2) * H;
    for (int64_t h = 0; h < H; h++) row[h] += dbias[h * P + i];
  }
  return OK;
}
