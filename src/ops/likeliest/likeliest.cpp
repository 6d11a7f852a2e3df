// coarse_copy and likeliest, CPU. Contracts, formulas and why this is exact: likeliest.ts in this folder.
#include "../linear_rows/few_rows.h"
#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace {

constexpr int64_t CHUNK = 256;     // outputs; a multiple of W
constexpr int64_t AHEAD = 1 << 13;  // bytes between what is used and what is asked for

/** W numbers as floats. Compilers take conversions of int8 vectors apart. */
inline vec widened(const int8_t *p, Whole) {
#if defined(__AVX512F__)
  const ivec wide = (ivec)_mm512_maskz_cvtepi8_epi32(-1, _mm_loadu_si128(reinterpret_cast<const __m128i *>(p)));
#elif defined(__AVX2__)
  const ivec wide = (ivec)_mm256_cvtepi8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i *>(p)));
#elif defined(__SSE4_1__)
  int32_t four;
  memcpy(&four, p, sizeof four);
  const ivec wide = (ivec)_mm_cvtepi8_epi32(_mm_cvtsi32_si128(four));
#else
  ivec wide;
  for (int l = 0; l < W; l++) wide[l] = p[l];
#endif
  return __builtin_convertvector(wide, vec);
}

inline vec widened(const int8_t *p, int64_t n) { return load(p, n); }

/** W outputs from `values` on, fewer where there are not so many, of ROWS rows: the sums of each row, a lane for each output. */
template <int ROWS> void coarseSums(const Rows &rows, int64_t n, const int8_t *values, int64_t count, vec *out) {
  constexpr int AT_ONCE = 4;
  vec sums[ROWS][W];
  for (int first = 0; first < W; first += AT_ONCE) {
    vec part[ROWS][AT_ONCE];
    const int8_t *at[AT_ONCE];
    for (int c = 0; c < AT_ONCE; c++) {
      at[c] = values + std::min<int64_t>(first + c, count - 1) * rows.I;
      for (int r = 0; r < ROWS; r++) part[r][c] = vec{};
      for (int64_t i = 0; i < rows.I; i += 64) __builtin_prefetch(at[c] + AHEAD + i);
    }
    forVectors(0, rows.I, [&](int64_t i, auto left) {
#pragma GCC unroll 4
      for (int c = 0; c < AT_ONCE; c++) {
        const vec value = widened(at[c] + i, left);
#pragma GCC unroll 4
        for (int r = 0; r < ROWS; r++) part[r][c] += load(rows.x + (n + r) * rows.stride + i) * value;
      }
    });
    for (int r = 0; r < ROWS; r++)
      for (int c = 0; c < AT_ONCE; c++) sums[r][first + c] = part[r][c];
  }
  for (int r = 0; r < ROWS; r++) out[r] = laneSums<W>(sums[r]);
}

/** The outputs that could be the largest: upper bounds of all of them, and the largest lower bound of each chunk. */
struct Bounds {
  const Rows &rows;
  const int8_t *values;
  const float *steps, *errors, *sizes;  // sizes: at least |x| of each row
  float *upper, *lower;                 // [N,V], [N,chunks]
  int64_t V, chunks;

  /** Rows [n, n + ROWS) of a chunk. */
  template <int ROWS> void of(int64_t n, int64_t chunk) const {
    vec largestLower[ROWS];
    for (vec &v : largestLower) v = splat(-INFINITY);
    for (int64_t v = chunk * CHUNK; v < std::min(V, (chunk + 1) * CHUNK); v += W) {
      vec sums[ROWS];
      const int64_t count = std::min<int64_t>(W, V - v);
      coarseSums<ROWS>(rows, n, values + v * rows.I, count, sums);
      const vec step = rows.alpha * (count == W ? load(steps + v) : load(steps + v, count));
      const vec error = rows.alpha * (count == W ? load(errors + v) : load(errors + v, count));
      for (int r = 0; r < ROWS; r++) {
        const vec middle = step * sums[r], reach = error * sizes[n + r];
        vec below = middle - reach;
        for (int64_t l = count; l < W; l++) below[l] = -INFINITY;
        largestLower[r] = below > largestLower[r] ? below : largestLower[r];  // not with NaN
        float *out = upper + (n + r) * V + v;
        if (count == W) store(out, middle + reach);
        else store(out, middle + reach, count);
      }
    }
    for (int r = 0; r < ROWS; r++) {
      float most = -INFINITY;
      for (int l = 0; l < W; l++) most = largestLower[r][l] > most ? largestLower[r][l] : most;
      lower[(n + r) * chunks + chunk] = most;
    }
  }
};

struct Best {
  float value;
  int64_t at;
  void take(float other, int64_t where) {
    if (other > value) value = other, at = where;
  }
};

}  // namespace

KERNEL(coarse_copy)(const float *weight, int8_t *values, float *steps, float *errors, int64_t V, int64_t I) {
  const float rounding = float(I + 64) * 0x1p-23f;
  parallelFor(V, std::max<int64_t>(1, (1 << 14) / I), [=](int64_t begin, int64_t end) {
    for (int64_t v = begin; v < end; v++) {
      const float *row = weight + v * I;
      vec largestSize{}, strange{};
      forVectors(0, I, [&](int64_t i, auto left) {
        const vec w = load(row + i, left), size = w < 0 ? -w : w;
        largestSize = largest(size, largestSize);
        strange += w - w;  // NaN for infinities and NaN
      });
      float most = 0;
      for (int l = 0; l < W; l++) most = std::max(most, largestSize[l]);
      const bool usual = sum(strange) == 0;
      const float step = most / 127, inverse = usual && most > 1e-30f ? 127 / most : 0, share = most > 1e-30f ? 1 / most : 0;
      vec rest{}, size{};
      forVectors(0, I, [&](int64_t i, auto left) {
        const vec w = load(row + i, left), scaled = w * inverse;
        const vec whole = inverse == 0 ? vec{} : (scaled + 0x1.8p23f) - 0x1.8p23f;  // the nearest whole number
        const ivec numbers = __builtin_convertvector(whole, ivec);
        const int64_t count = std::min<int64_t>(W, I - i);
        for (int64_t l = 0; l < count; l++) values[v * I + i + l] = int8_t(numbers[l]);
        const vec lost = (w - step * whole) * share, part = w * share;
        rest += lost * lost;
        size += part * part;
      });
      steps[v] = usual ? step : NAN;
      // Of numbers as small as 1e-30 only the count is known.
      const float bound = share == 0 ? 2 * sqrtf(float(I)) : 1.001f * sqrtf(sum(rest)) + rounding * sqrtf(sum(size));
      errors[v] = usual ? most * bound : NAN;
    }
  });
  return OK;
}

KERNEL(likeliest)(const float *x, const float *weight, const int8_t *values, const float *steps, const float *errors, int32_t *ids,
                  int64_t N, int64_t I, int64_t V, float alpha) {
  static thread_local Scratch scratch;
  const int64_t stride = paddedStride(I), chunks = (V + CHUNK - 1) / CHUNK;
  float *memory = scratch.floats(N * (stride + 1 + V + 3 * chunks) + W);
  if (!memory) return OUT_OF_MEMORY;
  float *sizes = memory + N * stride + W, *upper = sizes + N, *lower = upper + N * V;
  const Rows rows = paddedRows(x, memory, N, I, alpha);
  for (int64_t n = 0; n < N; n++) {
    float sum = 0;
    for (int64_t i = 0; i < I; i++) sum += x[n * I + i] * x[n * I + i];
    sizes[n] = 1.001f * sqrtf(sum) + 1e-16f;  // squares of small numbers vanish
  }
  const Bounds bounds{rows, values, steps, errors, sizes, upper, lower, V, chunks};
  parallelFor(chunks, 1, [&](int64_t begin, int64_t end) {
    for (int64_t chunk = begin; chunk < end; chunk++) {
      int64_t n = 0;
      for (; n + 4 <= N; n += 4) bounds.of<4>(n, chunk);
      for (; n < N; n++) bounds.of<1>(n, chunk);
    }
  });
  for (int64_t n = 0; n < N; n++) {
    float least = -INFINITY;
    for (int64_t chunk = 0; chunk < chunks; chunk++) {
      const float own = lower[n * chunks + chunk];
      least = own > least ? own : least;
    }
    Best best{-INFINITY, 0};
    for (int64_t v = 0; v < V; v++)
      if (!(upper[n * V + v] < least)) {
        float y;
        column(Rows{rows.x + n * stride, stride, I, 1, alpha}, weight + v * I, &y, 1);
        best.take(y, v);
      }
    ids[n] = int32_t(best.at);
  }
  return OK;
}
