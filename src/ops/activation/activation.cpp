// activation, CPU. Contracts, formulas and sources: activation.ts in this folder.
#include "functions.h"

namespace {

constexpr int64_t GRAIN = 16384;

}  // namespace

KERNEL(activation_forward)(const T *x, T *y, int64_t N, int32_t kind) {
  return with(kind, [=](auto f) {
    parallelFor(N, GRAIN, [=](int64_t begin, int64_t end) {
      forVectors(begin, end, [=](int64_t i, auto n) { store(y + i, f.value(load(x + i, n)), n); });
    });
  });
}

KERNEL(activation_backward)(const T *dy, const T *x, T *dx, int64_t N, int32_t kind) {
  return with(kind, [=](auto f) {
    parallelFor(N, GRAIN, [=](int64_t begin, int64_t end) {
      forVectors(begin, end, [=](int64_t i, auto n) {
        vec value, slope;
        f.both(load(x + i, n), value, slope);
        store(dx + i, load(dy + i, n) * slope, n);
      });
    });
  });
}

KERNEL(gated_activation_forward)(const T *gate, const T *up, T *y, int64_t N, int32_t kind) {
  return with(kind, [=](auto f) {
    parallelFor(N, GRAIN, [=](int64_t begin, int64_t end) {
      forVectors(begin, end,
                 [=](int64_t i, auto n) { store(y + i, f.value(load(gate + i, n)) * load(up + i, n), n); });
    });
  });
}

KERNEL(gated_activation_backward)(const T *dy, const T *gate, const T *up, T *dgate, T *dup, int64_t N, int32_t kind) {
  return with(kind, [=](auto f) {
    parallelFor(N, GRAIN, [=](int64_t begin, int64_t end) {
      forVectors(begin, end, [=](int64_t i, auto n) {
        const vec d = load(dy + i, n);
        vec value, slope;
        f.both(load(gate + i, n), value, slope);
        store(dgate + i, d * load(up + i, n) * slope, n);
        store(dup + i, d * value, n);
      });
    });
  });
}

KERNEL(gated_halves_forward)(const T *gateUp, T *y, int64_t N, int64_t F, int32_t kind) {
  return with(kind, [=](auto f) {
    parallelFor(N, GRAIN / F + 1, [=](int64_t begin, int64_t end) {
      for (int64_t n = begin; n < end; n++) {
        const T *gate = gateUp + n * 2 * F, *up = gate + F;
        forVectors(0, F, [=](int64_t i, auto c) { store(y + n * F + i, f.value(load(gate + i, c)) * load(up + i, c), c); });
      }
    });
  });
}

KERNEL(gated_halves_backward)(const T *dy, const T *gateUp, T *dgateUp, T *y, int64_t N, int64_t F, int32_t kind) {
  return with(kind, [=](auto f) {
    parallelFor(N, GRAIN / F + 1, [=](int64_t begin, int64_t end) {
      for (int64_t n = begin; n < end; n++) {
        const int64_t gate = n * 2 * F, up = gate + F;
        forVectors(0, F, [=](int64_t i, auto c) {
          const vec d = load(dy + n * F + i, c), u = load(gateUp + up + i, c);
          vec value, slope;
          f.both(load(gateUp + gate + i, c), value, slope);
          store(dgateUp + gate + i, d * u * slope, c);
          store(dgateUp + up + i, d * value, c);
          if (y) store(y + n * F + i, value * u, c);
        });
      }
    });
  });
}
