// linear_int8, CPU. Contract and formula: linear_int8.ts in this folder.
//
// Few rows of x: dot products of rows of x with rows of a weight as they lie in memory, W at once (tile). More rows: panels of
// the weight (int8_panels.h), or the matrix unit. How a register of weights meets one of x is a Dots: by the VNNI instruction
// where the processor has it, else in 16 bits.
#include <algorithm>
#include <atomic>
#include "lane_sums.h"
#include "scratch.h"
#if defined(__x86_64__)
#include <immintrin.h>
#endif
#include "int8_panels.h"
#if defined(__AMX_TILE__)
#include "int8_tiles.h"
#endif

namespace {

constexpr int64_t TASK_BYTES = 1 << 15;
constexpr int64_t PANEL_TASK_OPERATIONS = 1 << 21;
constexpr int64_t SERIAL_OPERATIONS = 1 << 17;  // less is done before another thread has begun
constexpr int64_t ROWS_AT_ONCE = 16;            // of x, which stay in the first cache level with W rows of a weight

/** Sums of pairs of products in 16 bits, which fit 32. */
struct PairDots {
  typedef int16_t Item;
  static constexpr int STEP = 2 * W, TERMS = 2;
  typedef int8_t Bytes __attribute__((vector_size(STEP)));
  typedef int16_t Weights __attribute__((vector_size(2 * STEP)));
  static constexpr int BIAS = 0;

  static Weights load(const int8_t *p) {
#if defined(__AVX512BW__)
    return (Weights)_mm512_cvtepi8_epi16(_mm256_loadu_si256((const __m256i *)p));
#elif defined(__AVX2__)  // the compiler takes four instructions for a conversion that is one
    return (Weights)_mm256_cvtepi8_epi16(_mm_loadu_si128((const __m128i *)p));
#else
    Bytes b;
    memcpy(&b, p, STEP);
    return __builtin_convertvector(b, Weights);
#endif
  }
  static Weights loadTerms(const int8_t *p) { return load(p); }
  /** Four terms of W outputs as two steps of two terms. */
  static void storeTerms(vec v, int8_t *p) {
#if defined(__AVX2__) && !defined(__AVX512F__)
    const __m256i firstPairs = _mm256_setr_epi8(0, 1, 4, 5, 8, 9, 12, 13, 2, 3, 6, 7, 10, 11, 14, 15,  //
                                                0, 1, 4, 5, 8, 9, 12, 13, 2, 3, 6, 7, 10, 11, 14, 15);
    const __m256i inLanes = _mm256_shuffle_epi8((__m256i)v, firstPairs);
    const __m256i pairs = _mm256_permute4x64_epi64(inLanes, 0xd8);
    _mm_storeu_si128((__m128i *)p, _mm256_castsi256_si128(pairs));
    _mm_storeu_si128((__m128i *)(p + PANEL * TERMS), _mm256_extracti128_si256(pairs, 1));
#else
    const halves low = __builtin_convertvector((uvec)v & 0xffff, halves), high = __builtin_convertvector((uvec)v >> 16, halves);
    memcpy(p, &low, sizeof low);
    memcpy(p + PANEL * TERMS, &high, sizeof high);
#endif
  }
  static ivec add(ivec sum, Weights w, const Item *x) {
    Weights v;
    memcpy(&v, x, sizeof v);
    return multiplyAdd(sum, w, v);
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
};

#if defined(__AVX512F__)
/** Sums of four products of a weight plus 128, which the instruction wants unsigned, and x; 128 sum(x) is taken off later. */
struct VnniDots {
  typedef int8_t Item;
  static constexpr int STEP = 4 * W, TERMS = 4;
  typedef int8_t Weights __attribute__((vector_size(STEP)));
  static constexpr int BIAS = 128;

  static Weights load(const int8_t *p) {
    Weights b;
    memcpy(&b, p, STEP);
    return b ^ int8_t(-128);
  }
  static Weights loadTerms(const int8_t *p) {
    Weights b;
    memcpy(&b, p, STEP);
    return b;
  }
  static void storeTerms(vec v, int8_t *p) {
    const Weights b = (Weights)v ^ int8_t(-128);
    memcpy(p, &b, sizeof b);
  }
  static ivec add(ivec sum, Weights w, const Item *x) {
    Weights v;
    memcpy(&v, x, sizeof v);
    return multiplyAdd(sum, w, v);
  }
  static ivec multiplyAdd(ivec sum, Weights w, Weights v) {
    asm("vpdpbusd %2, %1, %0" : "+v"(sum) : "v"(w), "v"(v));  // by its name: the build does not presume VNNI
    return sum;
  }
};
#endif

/** The first n < STEP weights, zeros behind them. */
template <class D> inline typename D::Weights load(const int8_t *p, int64_t n) {
  alignas(64) int8_t part[D::STEP] = {};
  memcpy(part, p, n);
  return D::load(part);
}

/** One weight and its result. */
struct Matrix {
  const int8_t *weight;
  const float *scales;
  T *y;
  int64_t O;
};

template <int COUNT, int TIMES, int... I> inline vec repeated(vec v, std::integer_sequence<int, I...>) {
  constexpr ivec lanes = {(I / TIMES % COUNT)...};
  return __builtin_shuffle(v, lanes);
}

/** COUNT numbers of 32 bits, each TIMES one after the other, and all that again up to the last lane. */
template <int COUNT, int TIMES> inline vec repeated(const void *p) {
  vec v{};
  memcpy(&v, p, COUNT * sizeof(float));
  return repeated<COUNT, TIMES>(v, std::make_integer_sequence<int, W>());
}

/** Rows [n, n + ROWS) times W / ROWS rows of a weight from o on; FETCH: the weight's next rows are asked for on the way. */
template <class D, int ROWS, bool FETCH>
inline void tile(const QuantisedRows<typename D::Item> &rows, int64_t n, const Matrix &m, int64_t o) {
  constexpr int COLUMNS = W / ROWS, AHEAD = COLUMNS < 8 ? 8 : COLUMNS;
  ivec sums[W];
#pragma GCC unroll 16
  for (int i = 0; i < W; i++) sums[i] = ivec{};
  const int8_t *weight = m.weight + o * rows.I;
  const auto *x = rows.x + n * rows.stride;
  const auto step = [&](int64_t i, auto get) {
    typename D::Weights columns[COLUMNS];
#pragma GCC unroll 16
    for (int c = 0; c < COLUMNS; c++) columns[c] = get(weight + c * rows.I + i);
#pragma GCC unroll 16
    for (int r = 0; r < ROWS; r++)
#pragma GCC unroll 16
      for (int c = 0; c < COLUMNS; c++) sums[r * COLUMNS + c] = D::add(sums[r * COLUMNS + c], columns[c], x + r * rows.stride + i);
  };
  int64_t i = 0;
  for (; i + D::STEP <= rows.I; i += D::STEP)
    step(i, [&](const int8_t *p) {
      if (FETCH) __builtin_prefetch(p + AHEAD * rows.I, 0, 2);
      return D::load(p);
    });
  if (i < rows.I) step(i, [&](const int8_t *p) { return load<D>(p, rows.I - i); });
  const vec steps = repeated<ROWS, COLUMNS>(rows.steps + n), scales = repeated<COLUMNS, 1>(m.scales + o);
  const ivec all = laneSums<W>(sums) - D::BIAS * (ivec)repeated<ROWS, COLUMNS>(rows.sums + n);
  T results[W];
  store(results, __builtin_convertvector(all, vec) * steps * scales);
#pragma GCC unroll 16
  for (int r = 0; r < ROWS; r++) memcpy(m.y + (n + r) * m.O + o, results + r * COLUMNS, COLUMNS * sizeof(T));
}

/** The rows of [n, end) that make whole tiles, times W rows of a weight; returns the first one that is left. */
template <class D, int ROWS>
int64_t tiles(const QuantisedRows<typename D::Item> &rows, int64_t n, int64_t end, const Matrix &m, int64_t o) {
  const int64_t last = n + (end - n) / ROWS * ROWS;
  for (int c = 0; c < W; c += W / ROWS)
    for (int64_t r = n; r < last; r += ROWS) {
      if (r == 0) tile<D, ROWS, true>(rows, r, m, o + c);
      else tile<D, ROWS, false>(rows, r, m, o + c);
    }
  return last;
}

/** All rows times one row of a weight. */
template <class D> void column(const QuantisedRows<typename D::Item> &rows, const Matrix &m, int64_t o) {
  const int8_t *weight = m.weight + o * rows.I;
  for (int64_t n = 0; n < rows.N; n++) {
    ivec sums{};
    int64_t i = 0;
    for (; i + D::STEP <= rows.I; i += D::STEP) sums = D::add(sums, D::load(weight + i), rows.x + n * rows.stride + i);
    if (i < rows.I) sums = D::add(sums, load<D>(weight + i, rows.I - i), rows.x + n * rows.stride + i);
    int32_t sum = -D::BIAS * rows.sums[n];
    for (int w = 0; w < W; w++) sum += sums[w];
    m.y[n * m.O + o] = T(float(sum) * rows.steps[n] * m.scales[o]);
  }
}

/** All rows times at most W rows of a weight from o on. */
template <class D> void block(const QuantisedRows<typename D::Item> &rows, const Matrix &m, int64_t o) {
  if (m.O - o < W) {
    for (; o < m.O; o++) column<D>(rows, m, o);
    return;
  }
  for (int64_t begin = 0; begin < rows.N; begin += ROWS_AT_ONCE) {
    const int64_t end = std::min(rows.N, begin + ROWS_AT_ONCE);
    int64_t n = tiles<D, 4>(rows, begin, end, m, o);
    n = tiles<D, 2>(rows, n, end, m, o);
    tiles<D, 1>(rows, n, end, m, o);
  }
}

/** Blocks of `width` outputs of all weights, numbered through. */
struct Blocks {
  Matrix matrices[3];
  int64_t width = W;
  int64_t of(const Matrix &m) const { return (m.O + width - 1) / width; }
  int64_t count() const { return of(matrices[0]) + of(matrices[1]) + of(matrices[2]); }
  template <class Body> void at(int64_t b, const Body &body) const {
    const Matrix *m = matrices;
    for (; b >= of(*m); m++) b -= of(*m);
    body(*m, b * width);
  }
};

/** Many rows: every task packs the panels that it multiplies. */
template <class D> int multiplyPanels(const QuantisedRows<typename D::Item> &rows, Blocks blocks) {
  blocks.width = PANEL;
  std::atomic<bool> failed{false};
  const int64_t grain = std::max<int64_t>(1, PANEL_TASK_OPERATIONS / (PANEL * rows.I * rows.N));
  parallelFor(blocks.count(), grain, [&](int64_t begin, int64_t end) {
    static thread_local Scratch scratch;
    int8_t *room = reinterpret_cast<int8_t *>(scratch.floats(PANEL * panelTerms(rows.I) / 4));
    if (!room) failed = true;
    else
      for (int64_t b = begin; b < end; b++)
        blocks.at(b, [&](const Matrix &m, int64_t o) {
          panelBlock<D>(rows, m.weight + o * rows.I, m.scales + o, m.y + o, m.O, std::min<int64_t>(PANEL, m.O - o), room);
        });
  });
  return failed ? OUT_OF_MEMORY : OK;
}

template <class D> int multiply(const T *x, const Blocks &blocks, int64_t N, int64_t I, float alpha) {
  const Quantised<typename D::Item> rows(x, N, I, alpha);
  if (!rows.x) return OUT_OF_MEMORY;
  if (N >= LEAST_PANEL_ROWS) return multiplyPanels<D>(rows, blocks);
  int64_t outputs = 0;
  for (const Matrix &m : blocks.matrices) outputs += m.O;
  const int64_t count = blocks.count(), grain = std::max<int64_t>(1, TASK_BYTES / (W * I * N));
  parallelFor(count, N * I * outputs < SERIAL_OPERATIONS ? count : grain, [&](int64_t begin, int64_t end) {
    for (int64_t b = begin; b < end; b++)
      blocks.at(b, [&](const Matrix &m, int64_t o) { block<D>(rows, m, o); });
  });
  return OK;
}

}  // namespace

KERNEL(linear_int8)(const T *x, const int8_t *first, const float *scales1, const int8_t *second, const float *scales2,
                    const int8_t *third, const float *scales3, T *y1, T *y2, T *y3, int64_t N, int64_t I, int64_t O,
                    int64_t P, int64_t Q, float alpha) {
  const Blocks blocks{{{first, scales1, y1, O}, {second, scales2, y2, P}, {third, scales3, y3, Q}}};
#if defined(__AMX_TILE__)
  if (N >= LEAST_TILED_ROWS && I % TERMS == 0) {
    const TiledRows rows(x, N, I, alpha);
    if (!rows.x) return OUT_OF_MEMORY;
    const auto product = [&](int j) {
      const Matrix &m = blocks.matrices[j];
      return TiledProduct(rows, m.weight, m.scales, m.y, m.O, rows.rest + j * TILE * I);
    };
    const TiledProduct products[] = {product(0), product(1), product(2)};
    runTiled(products, rows);
    return OK;
  }
#endif
#if defined(__AVX512F__)
  if (__builtin_cpu_supports("avx512vnni")) return multiply<VnniDots>(x, blocks, N, I, alpha);
#endif
  return multiply<PairDots>(x, blocks, N, I, alpha);
}
