// Rows of floats as int8: linear_int8's quantisation of x.
#pragma once
#include <algorithm>
#include "scratch.h"
#include "vector_math.h"

constexpr float LEAST = 1e-30f;
constexpr int PADDING = 64;  // items: rows are padded with zeros to a multiple of it

/** The largest |x|, infinity or NaN if there is one. */
inline float largestSize(const T *x, int64_t I) {
  ivec most{};
  forVectors(0, I, [&](int64_t i, auto part) {
    const ivec size = (ivec)load(x + i, part) & 0x7fffffff;  // sizes are in the order of their bits
    most = size > most ? size : most;
  });
  int32_t bits = 0;
  for (int w = 0; w < W; w++) bits = std::max(bits, most[w]);
  float result;
  memcpy(&result, &bits, sizeof result);
  return result;
}

/** How a row becomes whole numbers. */
struct RowScale {
  float inverse, step;  // steps in 1, 0 if all are to be zeros; what a step is worth, times alpha

  RowScale(const T *x, int64_t I, float alpha) {
    const float most = largestSize(x, I);
    const bool finite = most <= 3.402823466e38f;
    inverse = finite && most >= LEAST ? 127 / most : 0;
    step = !finite ? NAN : most >= LEAST ? alpha * (most / 127) : 0;
  }

  /** W numbers to q, and added to sums. */
  template <class Item> void quantise(vec v, Item *q, ivec &sums) const {
    typedef Item Items __attribute__((vector_size(W * sizeof(Item))));
    v = inverse == 0 ? vec{} : v * inverse;
    for (int w = 0; w < W; w++) v[w] = rintf(v[w]);
    const ivec whole = __builtin_convertvector(v, ivec);
    sums += whole;
    const Items items = __builtin_convertvector(whole, Items);
    memcpy(q, &items, sizeof items);
  }
};

/** Quantises a row of I numbers; writes zeros behind it up to `end`. @returns what a step is worth, times alpha, and the sum */
template <class Item> void quantiseRow(const T *x, int64_t I, int64_t end, float alpha, Item *q, float &step, int32_t &sum) {
  const RowScale scale(x, I, alpha);
  step = scale.step;
  ivec sums{};
  for (int64_t i = 0; i < end; i += W)
    scale.quantise(I - i >= W ? load(x + i) : i < I ? load(x + i, I - i) : vec{}, q + i, sums);
  sum = 0;
  for (int w = 0; w < W; w++) sum += sums[w];
}

template <class Item> struct QuantisedRows {
  const Item *x;  // [N, stride], null when memory ran out
  const float *steps;
  const int32_t *sums;
  int64_t stride, I, N;
};

/** Rows of x, quantised by all threads into memory that the thread keeps for the next call. */
template <class Item> struct Quantised : QuantisedRows<Item> {
  Quantised(const T *from, int64_t N, int64_t I, float alpha) {
    static thread_local Scratch scratch;
    const int64_t padded = (I + PADDING - 1) / PADDING * PADDING;
    this->stride = padded + PADDING;  // not a power of two, whose rows would share cache sets
    this->I = I;
    this->N = N;
    const int64_t items = (N * this->stride * int64_t(sizeof(Item)) + 3) / 4;
    float *steps = scratch.floats(2 * N + items + 16);
    this->steps = steps;
    this->sums = reinterpret_cast<int32_t *>(steps + N);
    this->x = nullptr;
    if (!steps) return;
    int32_t *sums = reinterpret_cast<int32_t *>(steps + N);
    Item *q = reinterpret_cast<Item *>(steps + (2 * N + 15) / 16 * 16);
    this->x = q;
    const int64_t stride = this->stride;
    parallelFor(N, std::max<int64_t>(1, (1 << 14) / I), [&](int64_t begin, int64_t end) {
      for (int64_t n = begin; n < end; n++) quantiseRow(from + n * I, I, padded, alpha, q + n * stride, steps[n], sums[n]);
    });
  }
};
