// Loads, stores, sums and transcendental functions on whole vector registers, for float and bf16 arrays.
// Polynomials are minimax fits made for this file; errors are relative, measured over the whole range.
#pragma once
#include "kernel.h"

typedef uint32_t uvec __attribute__((vector_size(VECTOR_BYTES)));
typedef uint16_t halves __attribute__((vector_size(VECTOR_BYTES / 2)));

inline vec splat(float x) { return x - vec{}; }  // adding 0 would cost an instruction: it changes -0

inline vec load(const float *p) {
  vec v;
  memcpy(&v, p, sizeof v);
  return v;
}

inline vec load(const bf16 *p) {
#if defined(__AVX2__)  // the compiler takes five instructions for a conversion that is one
  uvec u;
  asm("vpmovzxwd %1, %0" : "=v"(u) : "m"(*reinterpret_cast<const char(*)[sizeof(halves)]>(p)));
  return (vec)(u << 16);
#endif
  halves h;
  memcpy(&h, p, sizeof h);
  return (vec)(__builtin_convertvector(h, uvec) << 16);
}

inline void store(float *p, vec v) { memcpy(p, &v, sizeof v); }

inline void store(bf16 *p, vec v) {
  const uvec u = (uvec)v;
  const uvec rounded = (u + 0x7fff + (u >> 16 & 1)) >> 16;
  const halves h = __builtin_convertvector((uvec)(v == v ? (ivec)rounded : (ivec)(u >> 16 | 0x40)), halves);
  memcpy(p, &h, sizeof h);
}

/** The first n < W elements; zeros, or `padding`, behind them. */
template <class X> inline vec load(const X *p, int64_t n, float padding = 0) {
  float part[W];
  for (int i = 0; i < W; i++) part[i] = i < n ? float(p[i]) : padding;
  return load(part);
}

template <class X> inline void store(X *p, vec v, int64_t n) {
  X part[W];
  store(part, v);
  for (int64_t i = 0; i < n; i++) p[i] = part[i];
}

/** Stands for a full vector where a count of elements may stand. */
struct Whole {};
template <class X> inline vec load(const X *p, Whole, float = 0) { return load(p); }
template <class X> inline void store(X *p, vec v, Whole) { store(p, v); }

/** body(i, n) for the vectors of [begin, end): n is Whole{} or, for the last one, the number of elements left. */
template <class Body> inline void forVectors(int64_t begin, int64_t end, const Body &body) {
  int64_t i = begin;
  for (; i + W <= end; i += W) body(i, Whole{});
  if (i < end) body(i, end - i);
}

inline float sum(vec v) {
  float s = 0;
  for (int w = 0; w < W; w++) s += v[w];
  return s;
}

/** Sum over [0, n) of f(i, n), which is to be 0 in the elements that `load` fills with zeros. */
template <class F> inline float vectorSum(int64_t n, const F &f) {
  vec s[4] = {};  // independent chains, so that additions overlap
  int64_t i = 0;
  for (; i + 4 * W <= n; i += 4 * W)
    for (int k = 0; k < 4; k++) s[k] += f(i + k * W, Whole{});
  forVectors(i, n, [&](int64_t at, auto part) { s[0] += f(at, part); });
  return sum((s[0] + s[1]) + (s[2] + s[3]));
}

inline vec largest(vec a, vec b) { return a > b ? a : b; }
inline vec smallest(vec a, vec b) { return a < b ? a : b; }

inline vec squareRoot(vec x) {
  for (int w = 0; w < W; w++) x[w] = sqrtf(x[w]);
  return x;
}

/** Largest of p[0, n); -infinity when n is 0. NaN is passed over. */
template <class X> inline float largest(const X *p, int64_t n) {
  vec m[4];
  for (vec &v : m) v = splat(-INFINITY);
  int64_t i = 0;
  for (; i + 4 * W <= n; i += 4 * W)
    for (int k = 0; k < 4; k++) m[k] = largest(load(p + i + k * W), m[k]);
  forVectors(i, n, [&](int64_t at, auto part) { m[0] = largest(load(p + at, part, -INFINITY), m[0]); });
  const vec v = largest(largest(m[0], m[1]), largest(m[2], m[3]));
  float result = v[0];
  for (int w = 1; w < W; w++) result = v[w] > result ? v[w] : result;
  return result;
}

/** e^x to 1.2e-7; 0 below -87.3 (also for -infinity), 2.4e38 above 88.3, NaN for NaN. */
inline vec exponential(vec x) {
  x = x > 88.37f ? splat(88.37f) : x;
  const vec shifted = x * 1.44269504f + 12582912.0f;  // adding 1.5 * 2^23 rounds to an integer, held in the low bits
  const vec n = shifted - 12582912.0f;
  const vec r = (x - n * 0.693359375f) + n * 2.12194440e-4f;  // x - n ln 2, in two parts
  vec p = r * 1.381461276e-3f + 8.368710056e-3f;
  p = p * r + 4.166838899e-2f;
  p = p * r + 0.1666652113f;
  p = p * r + 0.4999999404f;
  p = p * r * r + r + 1.0f;
  const vec y = p * (vec)(((uvec)shifted << 23) + (127u << 23));
  return x < -87.33f ? vec{} : y;
}

/** 1 / (1 + e^-x) to 2e-7; saturates at both ends. */
inline vec sigmoid(vec x) { return 1.0f / (1.0f + exponential(-x)); }

/** tanh(x) to 2e-7. */
inline vec hyperbolicTangent(vec x) {
  const vec a = x < 0.0f ? -x : x, s = x * x;
  vec p = s * -5.704990122e-3f + 2.063908987e-2f;
  p = p * s - 5.373971537e-2f;
  p = p * s + 0.1333144158f;
  p = p * s - 0.3333328068f;
  const vec e = exponential(-2.0f * a), t = (1.0f - e) / (1.0f + e);
  return a < 0.625f ? p * s * x + x : (x < 0.0f ? -t : t);
}

/** The standard normal distribution: `cumulative` P(X <= x) to 9e-7 above -5, `density` e^(-x^2/2) / sqrt(2 pi). */
inline void normal(vec x, vec &cumulative, vec &density) {
  const vec z = (x < 0.0f ? -x : x) * 0.7071067812f, t = 1.0f / (1.0f + 0.3275911f * z);
  const vec e = exponential(x * x * -0.5f);
  vec p = t * -0.1406465322f + 0.4945071340f;  // e^(z^2) erfc(z) as a polynomial in t
  p = p * t - 0.4017736614f;
  p = p * t + 0.4490202963f;
  p = p * t + 2.793134190e-2f;
  p = p * t + 0.2050342560f;
  p = p * t + 0.1808860600f;
  p = p * t + 0.1850412339f;
  const vec tail = 0.5f * p * t * e;
  cumulative = x < 0.0f ? tail : 1.0f - tail;
  density = e * 0.3989422804f;
}
