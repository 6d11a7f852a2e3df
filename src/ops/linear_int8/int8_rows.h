// Rows of numbers as int8, and how a weight in int8 lies in memory.
//
// A weight's outputs are side by side in panels of PANEL, GROUP terms of each at a time: [O / PANEL][I / GROUP][PANEL][GROUP].
// A register of weights is so a register of outputs, a matrix unit's tile is a stretch of memory, and few rows read a
// weight from its first byte to its last. The last panel has the outputs that are left, the last group the terms.
#pragma once
#include <algorithm>
#include "scratch.h"
#include "vector_math.h"

namespace {  // T differs between the objects of one library

constexpr float LEAST = 1e-30f;
constexpr int PANEL = 16, GROUP = 4;
constexpr int64_t PADDING = 64;  // terms: rows end with zeros up to a multiple of it

inline int64_t padded(int64_t I) { return (I + PADDING - 1) / PADDING * PADDING; }

/** The largest |x|, infinity or NaN if there is one. */
template <class X> inline float largestSize(const X *x, int64_t I) {
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

  template <class X> RowScale(const X *x, int64_t I, float alpha) {
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

/** rms_norm before rows are quantised, where there is one. */
struct Norm {
  const float *weight = nullptr;
  float eps = 0;

  void operator()(const float *x, int64_t I, float *h) const {
    const float squares = vectorSum(I, [=](int64_t i, auto c) { return load(x + i, c) * load(x + i, c); });
    const float r = 1 / sqrtf(squares / I + eps);
    forVectors(0, I, [=](int64_t i, auto c) { store(h + i, load(x + i, c) * r * load(weight + i, c), c); });
  }
};

/** Room for rows of I numbers in steps, Item's type, of which products read whole blocks of 32 rows. */
template <class Item> struct Rows {
  Item *q = nullptr;
  float *steps = nullptr;   // what a step of each row is worth
  int32_t *sums = nullptr;  // of each row's steps
  int64_t I = 0, stride = 0;

  static int64_t strideOf(int64_t I) { return padded(I) + PADDING; }  // not a power of two, whose rows would share cache sets
  static int64_t blocksOf(int64_t N) { return (N + 31) / 32 * 32; }
  /** Floats of memory that they take. */
  static int64_t size(int64_t N, int64_t I) {
    return blocksOf(N) * (2 + strideOf(I) * int64_t(sizeof(Item)) / 4);
  }

  Rows(float *memory, int64_t N, int64_t I) : I(I), stride(strideOf(I)) {
    steps = memory;
    sums = reinterpret_cast<int32_t *>(memory + blocksOf(N));
    q = reinterpret_cast<Item *>(memory + 2 * blocksOf(N));
  }

  template <class X> void quantise(int64_t n, const X *x, float alpha) const {
    const RowScale scale(x, I, alpha);
    steps[n] = scale.step;
    ivec all{};
    Item *to = q + n * stride;
    for (int64_t i = 0, end = padded(I); i < end; i += W)
      scale.quantise(I - i >= W ? load(x + i) : i < I ? load(x + i, I - i) : vec{}, to + i, all);
    int32_t sum = 0;
    for (int w = 0; w < W; w++) sum += all[w];
    sums[n] = sum;
  }

  /** The same after a norm; h has room for I numbers. */
  void quantise(int64_t n, const float *x, float alpha, const Norm &norm, float *h) const {
    if (norm.weight) norm(x, I, h);
    quantise(n, norm.weight ? h : x, alpha);
  }
};

/** A weight [O,I]. */
struct Packed {
  const int8_t *weight;
  const float *scales;  // what a step of each output's weights is worth
  int64_t O, I;

  int64_t panels() const { return (O + PANEL - 1) / PANEL; }
  int64_t pairs() const { return (panels() + 1) / 2; }

  /** Floats of room that `at` may need. */
  static int64_t room(int64_t I) { return PANEL * padded(I) / 4; }

  /** A panel: where it lies, or, if something is missing at its end, a copy in `room` with zeros there. */
  const int8_t *at(int64_t p, int8_t *room) const {
    const int64_t count = std::min<int64_t>(PANEL, O - p * PANEL);
    const int8_t *from = weight + p * PANEL * I;
    if (count == PANEL && I % GROUP == 0) return from;
    memset(room, 0, PANEL * padded(I));
    for (int64_t i = 0; i < I; i += GROUP, room += PANEL * GROUP) {
      const int64_t terms = std::min<int64_t>(GROUP, I - i);
      for (int64_t o = 0; o < count; o++, from += terms) memcpy(room + o * GROUP, from, terms);
    }
    return room - (I + GROUP - 1) / GROUP * PANEL * GROUP;
  }

  /** W scales from output o on, zeros behind the last. */
  vec scale(int64_t o) const { return O - o >= W ? load(scales + o) : o < O ? load(scales + o, O - o) : vec{}; }
};

/** Sums of products in steps of rows and of one output's weights, as numbers. */
inline vec worth(const int32_t *sums, float step, vec scale) {
  ivec v;
  memcpy(&v, sums, sizeof v);
  return __builtin_convertvector(v, vec) * step * scale;
}

}  // namespace
