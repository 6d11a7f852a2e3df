// IEEE half precision as vectors of floats: what kernels with weights in float16 include.
#pragma once
#include "vector_math.h"
#if defined(__F16C__)
#include <immintrin.h>
#endif

inline vec load(const half *p) {
#if defined(__AVX512F__)
  return (vec)_mm512_maskz_cvtph_ps(0xffff, _mm256_loadu_si256((const __m256i *)p));  // unmasked it warns
#elif defined(__F16C__)
  return (vec)_mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)p));
#else
  halves h;
  memcpy(&h, p, sizeof h);
  const uvec u = __builtin_convertvector(h, uvec), size = (u & 0x7fff) << 13;
  const vec scaled = (vec)size * 5.192296858534828e33f;  // 2^112: the exponents' biases are 15 and 127
  const uvec value = size >= 0x0f800000 ? size | 0x7f800000 : (uvec)scaled;
  return (vec)(value | (u & 0x8000) << 16);
#endif
}

inline void store(half *p, vec v) {
#if defined(__AVX512F__)
  _mm256_storeu_si256((__m256i *)p, _mm512_maskz_cvtps_ph(0xffff, (__m512)v, _MM_FROUND_TO_NEAREST_INT));
#elif defined(__F16C__)
  _mm_storeu_si128((__m128i *)p, _mm256_cvtps_ph((__m256)v, _MM_FROUND_TO_NEAREST_INT));
#else
  half h[W];
  for (int w = 0; w < W; w++) h[w] = half(v[w]);
  memcpy(p, h, sizeof h);
#endif
}
