// Rows in int8 times two panels of a weight, in registers of sums. How weights meet x is a Dots: by the VNNI instruction
// where the processor has it, else in 16 bits. int8_tiles.h has a third one.
#pragma once
#if defined(__x86_64__)
#include <immintrin.h>
#endif
#include <utility>
#include "int8_rows.h"

namespace {

constexpr int BOTH = 2 * PANEL;         // outputs of two panels
constexpr int64_t PREFETCH = 2048;  // bytes that are asked for ahead of those that are read

/** A tile of rows, with `times` of a Dots. */
template <class D, int HEIGHT, class Out>
inline void tileOf(int64_t height, const Rows<typename D::Item> &rows, int64_t n, const int8_t *first, const int8_t *second,
                   const Out &out) {
  if constexpr (HEIGHT > 1) {
    if (height < HEIGHT) return tileOf<D, HEIGHT - 1>(height, rows, n, first, second, out);
  }
  alignas(64) int32_t sums[HEIGHT * BOTH];
  D::template times<HEIGHT>(rows, n, first, second, sums);
  out(n, HEIGHT, sums);
}

template <class D> struct Dots {
  /** Rows [begin, end) times two panels, in tiles as even as can be. out(n, count, sums) gets int32 [count][BOTH]. */
  template <class R, class Out>
  static void multiply(const R &rows, int64_t begin, int64_t end, const int8_t *first, const int8_t *second, const Out &out) {
    const int64_t tiles = (end - begin + D::HEIGHT - 1) / D::HEIGHT;
    for (int64_t t = 0; t < tiles; t++) {
      const int64_t n = begin + t * (end - begin) / tiles, last = begin + (t + 1) * (end - begin) / tiles;
      tileOf<D, D::HEIGHT>(last - n, rows, n, first, second, out);
    }
  }
};

/** Sums of pairs of products in 16 bits, which fit 32. */
struct PairDots : Dots<PairDots> {
  typedef int16_t Item;
  struct Unit {};
  typedef int16_t Weights __attribute__((vector_size(4 * W)));  // of W / 2 outputs
  static constexpr int VECTORS = 2 * PANEL / W;                // of a panel
  static constexpr int HEIGHT = 6;  // with two vectors 12 of 16 registers hold sums, or with four 24 of 32

  static Weights load(const int8_t *p) {
#if defined(__AVX512BW__)
    return (Weights)_mm512_cvtepi8_epi16(_mm256_loadu_si256((const __m256i *)p));
#elif defined(__AVX2__)  // the compiler takes four instructions for a conversion that is one
    return (Weights)_mm256_cvtepi8_epi16(_mm_loadu_si128((const __m128i *)p));
#else
    typedef int8_t Bytes __attribute__((vector_size(2 * W)));
    Bytes b;
    memcpy(&b, p, sizeof b);
    return __builtin_convertvector(b, Weights);
#endif
  }
  static ivec multiplyAdd(ivec sum, Weights w, Weights v) {
#if defined(__AVX512BW__)
    return sum + (ivec)_mm512_madd_epi16((__m512i)w, (__m512i)v);
#elif defined(__AVX2__)
    Weights products;  // in one piece: apart, the compiler runs out of registers and keeps a sum in memory
    asm("vpmaddwd %3, %2, %1\n\tvpaddd %1, %0, %0" : "+x"(sum), "=&x"(products) : "x"(w), "x"(v));
    return sum;
#elif defined(__SSE2__)
    return sum + (ivec)_mm_madd_epi16((__m128i)w, (__m128i)v);
#else
    const ivec a = (ivec)w, b = (ivec)v;
    return sum + (a << 16 >> 16) * (b << 16 >> 16) + (a >> 16) * (b >> 16);
#endif
  }

  template <int R>
  static void times(const Rows<Item> &rows, int64_t n, const int8_t *first, const int8_t *second, int32_t *sums) {
    if constexpr (W == 16) return some<R, 2>(rows, n, first, second, sums);
    for (int v = 0; v < VECTORS; v += 2) {
      some<R, 1>(rows, n, first + v * 2 * W, first, sums + v / 2 * W);
      some<R, 1>(rows, n, second + v * 2 * W, second, sums + PANEL + v / 2 * W);
    }
  }

  /** Two vectors of outputs of P panels. */
  template <int R, int P>
  static void some(const Rows<Item> &rows, int64_t n, const int8_t *first, const int8_t *second, int32_t *sums) {
    typedef int64_t Fours __attribute__((vector_size(4 * W)));
    ivec all[R][P][2] = {};
    const Item *x = rows.q + n * rows.stride;
    for (int64_t i = 0; i < rows.I; i += GROUP) {
      Weights weights[P][2];
#pragma GCC unroll 2
      for (int p = 0; p < P; p++) {
        const int8_t *from = (p == 0 ? first : second) + i * PANEL;
        __builtin_prefetch(from + PREFETCH);
#pragma GCC unroll 2
        for (int v = 0; v < 2; v++) weights[p][v] = load(from + v * 2 * W);
      }
#pragma GCC unroll 8
      for (int r = 0; r < R; r++) {
        int64_t terms;
        memcpy(&terms, x + r * rows.stride + i, sizeof terms);
        const Weights four = (Weights)(terms - Fours{});
#pragma GCC unroll 2
        for (int p = 0; p < P; p++)
#pragma GCC unroll 2
          for (int v = 0; v < 2; v++) all[r][p][v] = multiplyAdd(all[r][p][v], weights[p][v], four);
      }
    }
    const auto lanes = std::make_integer_sequence<int, W>();
#pragma GCC unroll 8
    for (int r = 0; r < R; r++)
#pragma GCC unroll 2
      for (int p = 0; p < P; p++) {
        const ivec sum = every<0>(all[r][p][0], all[r][p][1], lanes) + every<1>(all[r][p][0], all[r][p][1], lanes);
        memcpy(sums + r * BOTH + p * PANEL, &sum, sizeof sum);
      }
  }

  /** Every second lane of two registers. */
  template <int FIRST, int... L> static ivec every(ivec a, ivec b, std::integer_sequence<int, L...>) {
    return __builtin_shuffle(a, b, ivec{(2 * L + FIRST)...});
  }
};

#if defined(__AVX512F__)
/** Sums of four products of a weight plus 128, which the instruction wants unsigned, and x; 128 sum(x) is taken off later. */
struct VnniDots : Dots<VnniDots> {
  typedef int8_t Item;
  struct Unit {};
  typedef int8_t Weights __attribute__((vector_size(4 * W)));
  static constexpr int HEIGHT = 12;  // of 32 registers 24 hold sums

  template <int R>
  static void times(const Rows<Item> &rows, int64_t n, const int8_t *first, const int8_t *second, int32_t *sums) {
    constexpr int U = R <= 2 ? 4 : R <= 4 ? 2 : 1;  // sums that do not wait for each other
    ivec all[U][R][2] = {};
    const Item *x = rows.q + n * rows.stride;
    int64_t i = 0;
    for (; i + U * GROUP <= rows.I; i += U * GROUP) {
#pragma GCC unroll 4
      for (int u = 0; u < U; u++) {
        const int64_t at = i + u * GROUP;
        group(all[u], x + at, rows.stride, first + at * PANEL, second + at * PANEL);
      }
    }
    for (; i < rows.I; i += GROUP) group(all[0], x + i, rows.stride, first + i * PANEL, second + i * PANEL);
#pragma GCC unroll 16
    for (int r = 0; r < R; r++)
#pragma GCC unroll 2
      for (int p = 0; p < 2; p++) {
        ivec sum = all[0][r][p] - 128 * rows.sums[n + r];
#pragma GCC unroll 4
        for (int u = 1; u < U; u++) sum += all[u][r][p];
        memcpy(sums + r * BOTH + p * PANEL, &sum, sizeof sum);
      }
  }

 private:
  template <int R>
  __attribute__((always_inline)) static void group(ivec (&sums)[R][2], const Item *x, int64_t stride, const int8_t *first,
                                                   const int8_t *second) {
    if (R <= 8) {
      __builtin_prefetch(first + PREFETCH);
      __builtin_prefetch(second + PREFETCH);
    }
    Weights a, b;
    memcpy(&a, first, sizeof a);
    memcpy(&b, second, sizeof b);
    a ^= int8_t(-128);
    b ^= int8_t(-128);
#pragma GCC unroll 16
    for (int r = 0; r < R; r++) {
      int32_t terms;
      memcpy(&terms, x + r * stride, sizeof terms);
      const ivec v = terms - ivec{};
      asm("vpdpbusd %2, %1, %0" : "+v"(sums[r][0]) : "v"(a), "v"(v));  // by its name: the build does not presume VNNI
      asm("vpdpbusd %2, %1, %0" : "+v"(sums[r][1]) : "v"(b), "v"(v));
    }
  }
};
#endif

}  // namespace
