// Products on a processor with a matrix unit (AMX): tiles of 16 rows of 64 bytes, products of bfloat16 summed in float. This
// is packing and the block of tiles; gemm_amx.h and attention build on it.
//
// A float is cut into three bfloat16 parts while it is packed, x = x1 + x2 + x3 exactly (24 bits of mantissa in three times
// eight), and of the nine products of parts the six are summed that reach down to 2^-24 of x y:
// x3 y1, x2 y1, x2 y2, x1 y2, x1 y3, x1 y1; what is left out is below 2^-26. A sum over K rounds six times per 32 terms where a
// chain of multiply-adds rounds 32 times, so the error is smaller (docs/performance.md). The matrix unit takes
// numbers below 2^-126 as 0, so parts of values below 2^-108 are lost.
#pragma once
#include <immintrin.h>
#include <type_traits>
#include "ahead.h"
#include "transpose.h"

/** What was stored is in memory: some compilers' tile instructions do not say that they read it. */
inline void finishStores() { asm volatile("" ::: "memory"); }

/** The matrix unit of this thread, set up while this lives. */
class MatrixUnit {
 public:
  MatrixUnit() {
    struct {
      uint8_t palette, startRow, reserved[14];
      uint16_t rowBytes[16];
      uint8_t rows[16];
    } tiles = {};
    tiles.palette = 1;
    for (int i = 0; i < 8; i++) {
      tiles.rowBytes[i] = 64;
      tiles.rows[i] = 16;
    }
    asm volatile("" ::"r"(&tiles) : "memory");
    _tile_loadconfig(&tiles);
  }
  ~MatrixUnit() { _tile_release(); }
};

constexpr int TILE = 16, TILE_TERMS = 32, TILE_ITEMS = TILE * TILE_TERMS;

/** 16 pairs of terms for each of the N parts of an element, a pair in one lane. */
template <int N> struct Pairs { uvec part[N]; };

constexpr uint32_t UPPER = 0xffff0000, SIZE = 0x7fffffff, INFINITE = 0x7f800000, QUIET_NAN = 0x7fc00000;

/** x to the nearest bfloat16. */
inline vec roundedToHalf(vec x) { return (vec)(((uvec)x + 0x8000) & UPPER); }

/** Three parts of each x, in the upper halves. */
FAT5_INLINE void split(vec x, vec (&part)[3]) {
  part[0] = roundedToHalf(x);
  const vec rest = x - part[0];
  part[1] = roundedToHalf(rest);
  part[2] = rest - part[1];
  const uvec size = (uvec)x & SIZE;
  const __mmask16 large = _mm512_cmpge_epu32_mask((__m512i)size, _mm512_set1_epi32(0x7f7f8000));
  if (__builtin_expect(large == 0, 1)) return;
  // What would round to infinity is cut instead. Infinity is 1 + 0 + infinity, so that its infinite part meets the first
  // part of the other factor alone, which is 0 only if the factor is; of NaN every part may be one.
  const uvec upper = (uvec)x & UPPER, sign = (uvec)x & ~SIZE;
  const vec left = x - (vec)upper, middle = roundedToHalf(left);
  const auto special = [&](vec ordinary, vec big, uvec infinite) {
    const uvec bits = size == INFINITE ? infinite : size > INFINITE ? QUIET_NAN + uvec{} : (uvec)big;
    return size >= 0x7f7f8000 ? (vec)bits : ordinary;
  };
  part[0] = special(part[0], (vec)upper, sign | 0x3f800000);
  part[1] = special(part[1], middle, uvec{});
  part[2] = special(part[2], left - middle, (uvec)x);
}

/** The first N parts of each x: rounded to 2^-9 or 2^-17 for numbers, or exact. */
inline void split(vec x, vec (&part)[1]) { part[0] = roundedToHalf(x); }

inline void split(vec x, vec (&part)[2]) {
  part[0] = roundedToHalf(x);
  part[1] = roundedToHalf(x - part[0]);
}

template <int N> FAT5_INLINE Pairs<N> pairsOf(vec low, vec high) {
  vec a[N], b[N];
  split(low, a);
  split(high, b);
  Pairs<N> pairs;
  for (int p = 0; p < N; p++) pairs.part[p] = ((uvec)a[p] >> 16) | ((uvec)b[p] & UPPER);
  return pairs;
}

/** What `pairsOf` needs for every pair, in registers: left to itself the compiler makes it anew each time. */
struct SplitConstants {
  uvec half = uvec{} + 0x8000, upper = uvec{} + UPPER;
  SplitConstants() { asm("" : "+v"(half), "+v"(upper)); }
};

inline __mmask16 infiniteOrNan(vec x) { return _mm512_fpclass_ps_mask((__m512)x, 0x99); }

/** pairsOf<3> in fewer instructions. */
FAT5_INLINE Pairs<3> pairsOf(vec low, vec high, const SplitConstants &constants) {
  const auto rounded = [&](vec x) { return (vec)(((uvec)x + constants.half) & constants.upper); };
  const vec a1 = rounded(low), b1 = rounded(high), a = low - a1, b = high - b1;
  if (__builtin_expect(infiniteOrNan(a) | infiniteOrNan(b), 0)) return pairsOf<3>(low, high);
  const vec a2 = rounded(a), b2 = rounded(b), a3 = a - a2, b3 = b - b2;
  const auto joined = [](vec x, vec y) { return (uvec)_mm512_mask_blend_epi16(0xaaaaaaaa, (__m512i)((uvec)x >> 16), (__m512i)y); };
  return {{((uvec)a1 >> 16) | (uvec)b1, ((uvec)a2 >> 16) | (uvec)b2, joined(a3, b3)}};
}

/** The same of numbers; of others `strange` becomes infinite or NaN, or where products of two are infinite. */
FAT5_INLINE Pairs<3> pairsOf(vec low, vec high, const SplitConstants &constants, vec &strange) {
  const auto rounded = [&](vec x) { return (vec)(((uvec)x + constants.half) & constants.upper); };
  const vec a1 = rounded(low), b1 = rounded(high), a = low - a1, b = high - b1;
  const vec a2 = rounded(a), b2 = rounded(b), a3 = a - a2, b3 = b - b2;
  strange += a3 * b3;
  const auto joined = [](vec x, vec y) { return (uvec)_mm512_mask_blend_epi16(0xaaaaaaaa, (__m512i)((uvec)x >> 16), (__m512i)y); };
  return {{((uvec)a1 >> 16) | (uvec)b1, ((uvec)a2 >> 16) | (uvec)b2, joined(a3, b3)}};
}

inline __mmask32 firstOf(int64_t count) {
  return count >= 32 ? 0xffffffffu : count <= 0 ? 0 : (__mmask32(1) << count) - 1;
}

inline vec masked(const float *x, __mmask16 mask) { return (vec)_mm512_maskz_loadu_ps(mask, x); }

inline vec masked(const half *x, __mmask16 mask) {
  return (vec)_mm512_maskz_cvtph_ps(mask, _mm256_maskz_loadu_epi16(mask, x));
}

inline uvec masked(const bf16 *x, __mmask16 mask) {
  return (uvec)_mm512_maskz_cvtepu16_epi32(mask, _mm256_maskz_loadu_epi16(mask, x));
}

/** 32 terms that lie side by side, as many as there are. Lane l of a float's pairs holds terms l and l + 16. */
template <int N, class X> FAT5_INLINE Pairs<N> termsOf(const X *x, int64_t left) {
  const __mmask32 mask = firstOf(left);
  return pairsOf<N>(masked(x, __mmask16(mask)), masked(x + TILE, __mmask16(mask >> TILE)));
}

template <int N> FAT5_INLINE Pairs<1> termsOf(const bf16 *x, int64_t left) {
  return {(uvec)_mm512_maskz_loadu_epi16(firstOf(left), x)};
}

/** Pair `pair` of the terms `step` elements apart, of the first `width` lines, which lie side by side; zeros elsewhere. */
template <int N, class X> FAT5_INLINE Pairs<N> columnsOf(const X *x, int64_t step, int pair, int64_t terms, int64_t width) {
  const auto row = [&](int64_t term) {
    __builtin_prefetch(x + (term + TILE_TERMS) * step);  // what the next step takes
    return masked(x + term * step, __mmask16(firstOf(term < terms ? width : 0)));
  };
  if constexpr (std::is_same<X, bf16>::value) return {row(2 * pair) | row(2 * pair + 1) << 16};
  else return pairsOf<N>(row(pair), row(pair + TILE));
}

/** Stores row `row` of the tiles of all parts. */
template <int N> void storeRow(uint16_t *tiles, int64_t partStep, int row, const Pairs<N> &pairs) {
  for (int p = 0; p < N; p++)
    memcpy(tiles + p * partStep + row * TILE_TERMS, &pairs.part[p], sizeof(uvec));
}

/** Swaps lanes and rows of a tile. */
inline void transposeTile(const uint16_t *from, uint16_t *to) {
  vec v[W];
#pragma GCC unroll 16
  for (int i = 0; i < W; i++) memcpy(&v[i], from + i * TILE_TERMS, sizeof v[i]);
  transpose(v);
#pragma GCC unroll 16
  for (int i = 0; i < W; i++) memcpy(to + i * TILE_TERMS, &v[i], sizeof v[i]);
}

/** Which of a tile's sides runs over lines: A's rows are lines of pairs, B's rows are pairs of lines. */
enum class Side { A, B };

/** Where the elements of A or B lie: element (line, term) at data[line * lineStep + term * termStep], one step 1. */
template <class X> struct Lines {
  const X *data;
  int64_t lineStep, termStep, lines, terms;
};

/**
 * Packs 16 lines from `line` on, 32 terms from `term` on; zeros where there are none. Tiles of the parts lie 2 tiles apart:
 * the next 16 lines go between them.
 */
template <Side S, int N, class X> void packTile(const Lines<X> &from, int64_t line, int64_t term, uint16_t *out) {
  alignas(64) uint16_t turned[N * TILE_ITEMS];
  const bool alongTerms = from.termStep == 1, turn = alongTerms != (S == Side::A);
  const X *x = from.data + line * from.lineStep + term * from.termStep;
  const int64_t lines = from.lines - line, terms = from.terms - term;
  uint16_t *tiles = turn ? turned : out;
  const int64_t step = turn ? TILE_ITEMS : 2 * TILE_ITEMS;
  for (int i = 0; i < TILE; i++) {
    if (!alongTerms) storeRow(tiles, step, i, columnsOf<N>(x, from.termStep, i, terms, lines));
    else storeRow(tiles, step, i, termsOf<N>(x + i * from.lineStep, i < lines ? terms : 0));
  }
  if (turn)
    for (int p = 0; p < N; p++) transposeTile(turned + p * TILE_ITEMS, out + p * 2 * TILE_ITEMS);
}

/** Items of a packed panel of two times 16 lines. */
template <int N> constexpr int64_t panelItems(int64_t terms) {
  return (terms + TILE_TERMS - 1) / TILE_TERMS * 2 * N * TILE_ITEMS;
}

/** Packs panels of 32 lines, in the order in which they lie in memory. */
template <Side S, int N, class X> void packPanels(const Lines<X> &from, uint16_t *out) {
  const int64_t steps = (from.terms + TILE_TERMS - 1) / TILE_TERMS, tiles = (from.lines + TILE - 1) / TILE;
  const auto pack = [&](int64_t tile, int64_t step) {
    packTile<S, N>(from, tile * TILE, step * TILE_TERMS,
                out + tile / 2 * panelItems<N>(from.terms) + (step * 2 * N + tile % 2) * TILE_ITEMS);
  };
  if (from.termStep == 1)
    for (int64_t tile = 0; tile < tiles; tile++)
      for (int64_t step = 0; step < steps; step++) pack(tile, step);
  else
    for (int64_t step = 0; step < steps; step++)
      for (int64_t tile = 0; tile < tiles; tile++) pack(tile, step);
}

/** Adds the products of one pair of parts for all tiles of the block. */
#define FAT5_LOAD_A(p)                                             \
  _tile_loadd(4, a + (p) * 2 * TILE_ITEMS, 64);                    \
  if constexpr (DOWN == 2) _tile_loadd(5, a + ((p) * 2 + 1) * TILE_ITEMS, 64)
#define FAT5_LOAD_B(p)                                             \
  _tile_loadd(6, b + (p) * 2 * TILE_ITEMS, 64);                    \
  if constexpr (ACROSS == 2) _tile_loadd(7, b + ((p) * 2 + 1) * TILE_ITEMS, 64)
#define FAT5_MULTIPLY                                              \
  _tile_dpbf16ps(0, 4, 6);                                         \
  if constexpr (ACROSS == 2) _tile_dpbf16ps(1, 4, 7);              \
  if constexpr (DOWN == 2) _tile_dpbf16ps(2, 5, 6);                \
  if constexpr (DOWN == 2 && ACROSS == 2) _tile_dpbf16ps(3, 5, 7)

enum class Into { REPLACE, ADD };

/** Whether A and B have changed places: the block is the transpose of another one, to the bit. */
enum class Turned { NO, YES };

/** How often a product of `steps` steps calls `meanwhile`. */
template <int NA, int NB> constexpr int64_t callsOf(int64_t steps) { return NA < 3 || NB < 3 ? steps : 6 * steps; }

/** Tiles of A for consecutive steps, each in the place of the one `places` steps before, a power of two. */
struct Steps {
  const uint16_t *items;
  int64_t first = 0, places = 0;  // 0: each has its own place
};

/**
 * C = A B, or C += A B, of DOWN by ACROSS tiles over `steps` steps; A has NA parts and B NB. C's rows lie `stride` floats apart.
 * `meanwhile` is called while the unit works: vector instructions cost nothing then.
 */
template <int NA, int NB, int DOWN, int ACROSS, Turned TURNED, class Meanwhile>
void multiplyBlock(Steps left, const uint16_t *b, int64_t steps, float *c, int64_t stride, Into into, Meanwhile &meanwhile) {
  const int64_t bytes = 4 * stride;
  if (into == Into::ADD) {
    finishStores();
    _tile_loadd(0, c, bytes);
    if constexpr (ACROSS == 2) _tile_loadd(1, c + TILE, bytes);
    if constexpr (DOWN == 2) _tile_loadd(2, c + TILE * stride, bytes);
    if constexpr (DOWN == 2 && ACROSS == 2) _tile_loadd(3, c + TILE * stride + TILE, bytes);
  } else {
    _tile_zero(0);
    _tile_zero(1);
    _tile_zero(2);
    _tile_zero(3);
  }
  for (int64_t s = 0; s < steps; s++, b += 2 * NB * TILE_ITEMS) {
    const uint16_t *a = left.items + ((left.first + s) & (left.places - 1)) * 2 * NA * TILE_ITEMS;
    finishStores();
    if constexpr (NA < 3 || NB < 3) {
      constexpr int levels = NA > NB ? NA : NB;
      for (int level = levels - 1; level >= 0; level--)  // small products first
        for (int i = NA - 1; i >= 0; i--)
          if (level - i >= 0 && level - i < NB) {
            FAT5_LOAD_A(i);
            FAT5_LOAD_B(level - i);
            FAT5_MULTIPLY;
          }
      meanwhile();
    } else if constexpr (TURNED == Turned::NO) {  // in an order in which only one side changes from product to product
      FAT5_LOAD_A(2);
      FAT5_LOAD_B(0);
      FAT5_MULTIPLY;
      meanwhile();
      FAT5_LOAD_A(1);
      FAT5_MULTIPLY;
      meanwhile();
      FAT5_LOAD_B(1);
      FAT5_MULTIPLY;
      meanwhile();
      FAT5_LOAD_A(0);
      FAT5_MULTIPLY;
      meanwhile();
      FAT5_LOAD_B(2);
      FAT5_MULTIPLY;
      meanwhile();
      FAT5_LOAD_B(0);
      FAT5_MULTIPLY;
      meanwhile();
    } else {
      FAT5_LOAD_B(2);
      FAT5_LOAD_A(0);
      FAT5_MULTIPLY;
      meanwhile();
      FAT5_LOAD_B(1);
      FAT5_MULTIPLY;
      meanwhile();
      FAT5_LOAD_A(1);
      FAT5_MULTIPLY;
      meanwhile();
      FAT5_LOAD_B(0);
      FAT5_MULTIPLY;
      meanwhile();
      FAT5_LOAD_A(2);
      FAT5_MULTIPLY;
      meanwhile();
      FAT5_LOAD_A(0);
      FAT5_MULTIPLY;
      meanwhile();
    }
  }
  _tile_stored(0, c, bytes);
  if constexpr (ACROSS == 2) _tile_stored(1, c + TILE, bytes);
  if constexpr (DOWN == 2) _tile_stored(2, c + TILE * stride, bytes);
  if constexpr (DOWN == 2 && ACROSS == 2) _tile_stored(3, c + TILE * stride + TILE, bytes);
}
#undef FAT5_LOAD_A
#undef FAT5_LOAD_B
#undef FAT5_MULTIPLY

/** The same for up to 32 rows and columns of C, rounded up to whole tiles. */
template <int NA, int NB, Turned TURNED = Turned::NO, class Meanwhile>
void multiplyPanels(Steps a, const uint16_t *b, int64_t steps, float *c, int64_t stride, int64_t rows, int64_t columns, Into into,
                    Meanwhile &&meanwhile) {
  if (rows > TILE && columns > TILE) multiplyBlock<NA, NB, 2, 2, TURNED>(a, b, steps, c, stride, into, meanwhile);
  else if (rows > TILE) multiplyBlock<NA, NB, 2, 1, TURNED>(a, b, steps, c, stride, into, meanwhile);
  else if (columns > TILE) multiplyBlock<NA, NB, 1, 2, TURNED>(a, b, steps, c, stride, into, meanwhile);
  else multiplyBlock<NA, NB, 1, 1, TURNED>(a, b, steps, c, stride, into, meanwhile);
}
