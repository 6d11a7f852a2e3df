// linear_int8, linear_int8_add, CPU. Contracts and formulas: linear_int8.ts and linear_int8_add.ts in this folder.
#include "int8_product.h"

namespace {

/** A weight and where its results go. */
template <class Y> struct Target {
  Packed weight;
  Y *y;
};

/** Rows of x, those of float after a norm, times some weights. */
template <class D, Write HOW, class X, class Y, int COUNT> struct Product {
  typedef Rows<typename D::Item> QuantisedRows;

  const X *x;
  const Norm &norm;
  const Target<Y> (&targets)[COUNT];
  int64_t N, I;
  float alpha;

  void quantise(const QuantisedRows &rows, int64_t to, int64_t n, float *h) const {
    if constexpr (std::is_same<X, float>::value) rows.quantise(to, x + n * I, alpha, norm, h);
    else rows.quantise(to, x + n * I, alpha);
  }

  /** All outputs of some rows by each task. */
  int byRows(int64_t rowsOfTask) const {
    const int64_t size = QuantisedRows::size(rowsOfTask, I), room = PairRoom::size(I);
    const bool done = withMemory(N, rowsOfTask, size + room + I, [&](int64_t begin, int64_t end, float *memory) {
      const int64_t count = end - begin;
      const QuantisedRows rows(memory, count, I);
      for (int64_t n = begin; n < end; n++) quantise(rows, n - begin, n, memory + size + room);
      [[maybe_unused]] const typename D::Unit unit{};
      for (const Target<Y> &t : targets)
        for (int64_t pair = 0; pair < t.weight.pairs(); pair++)
          form(rows, count, t, pair, {memory + size, I}, t.y + begin * t.weight.O);
    });
    return done ? OK : OUT_OF_MEMORY;
  }

  /** Some outputs of all rows by each task. */
  int byOutputs() const {
    static thread_local Scratch scratch;
    float *memory = scratch.floats(QuantisedRows::size(N, I));
    if (!memory) return OUT_OF_MEMORY;
    const QuantisedRows rows(memory, N, I);
    int64_t pairs = 0;
    for (const Target<Y> &t : targets) pairs += t.weight.pairs();
    const int64_t few = std::max<int64_t>(1, SERIAL_NUMBERS / I);
    const bool quantised = withMemory(N, few, I, [&](int64_t begin, int64_t end, float *h) {
      for (int64_t n = begin; n < end; n++) quantise(rows, n, n, h);
    });
    const int64_t grain = pairsOfTask(pairs, BOTH * I, N);
    const auto task = [&](int64_t begin, int64_t end, float *room) {
      [[maybe_unused]] const typename D::Unit unit{};
      for (int64_t p = begin; p < end; p++) {
        const Target<Y> *t = targets;
        int64_t pair = p;
        for (; pair >= t->weight.pairs(); t++) pair -= t->weight.pairs();
        form(rows, N, *t, pair, {room, I}, t->y);
      }
    };
    return quantised && withMemory(pairs, grain, PairRoom::size(I), task) ? OK : OUT_OF_MEMORY;
  }

 private:
  void form(const QuantisedRows &rows, int64_t count, const Target<Y> &t, int64_t pair, const PairRoom &room, Y *y) const {
    multiplyPair<D>(rows, count, t.weight, pair, room, [&](int64_t n, int64_t height, const int32_t *sums) {
      writePair<HOW>(rows, t.weight, pair, n, height, sums, y);
    });
  }
};

template <Write HOW, class X, class Y, int COUNT>
int multiply(const X *x, const Norm &norm, const Target<Y> (&targets)[COUNT], int64_t N, int64_t I, float alpha) {
  return withDots(N, I, [&](auto dots) {
    const Product<decltype(dots), HOW, X, Y, COUNT> product{x, norm, targets, N, I, alpha};
    const int64_t rows = rowsOfTask(N);
    return rows > 0 ? product.byRows(rows) : product.byOutputs();
  });
}

}  // namespace

KERNEL(linear_int8)(const float *x, const float *norm, const int8_t *first, const float *scales1, const int8_t *second,
                    const float *scales2, const int8_t *third, const float *scales3, T *y1, T *y2, T *y3, int64_t N,
                    int64_t I, int64_t O, int64_t P, int64_t Q, float alpha, float eps) {
  const Target<T> targets[] = {
      {{first, scales1, O, I}, y1}, {{second, scales2, P, I}, y2}, {{third, scales3, Q, I}, y3}};
  return multiply<Write::REPLACE>(x, {norm, eps}, targets, N, I, alpha);
}

KERNEL(linear_int8_add)(const T *x, const int8_t *weight, const float *scales, float *y, int64_t N, int64_t I, int64_t O) {
  const Target<float> targets[] = {{{weight, scales, O, I}, y}};
  return multiply<Write::ADD>(x, {}, targets, N, I, 1);
}
