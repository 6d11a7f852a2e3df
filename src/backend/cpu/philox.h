// Philox4x32-10, the counter-based random numbers of dropout: the word of element e depends on nothing but
// (seed, site, step, e), so the backward pass draws the same ones again. Source and layout: src/util/philox.ts.
#pragma once
#include <cstdint>
#include <cstring>
#if defined(__x86_64__)
#include <immintrin.h>
#endif

/** Blocks computed together. */
constexpr int PHILOX_LANES = 16;

typedef uint64_t philoxVec __attribute__((vector_size(VECTOR_BYTES)));

/** The 64-bit products of the lanes' lower halves: one instruction that the compiler does not find by itself. */
inline philoxVec multiplyLow(philoxVec a, philoxVec b) {
#if defined(__x86_64__) && VECTOR_BYTES == 64
  return (philoxVec)_mm512_maskz_mul_epu32(0xff, (__m512i)a, (__m512i)b);  // the plain one makes GCC 12 warn
#elif defined(__x86_64__) && VECTOR_BYTES == 32
  return (philoxVec)_mm256_mul_epu32((__m256i)a, (__m256i)b);
#elif defined(__x86_64__)
  return (philoxVec)_mm_mul_epu32((__m128i)a, (__m128i)b);
#else
  return (a & 0xffffffffu) * (b & 0xffffffffu);
#endif
}

/** The words of elements [4 * block, 4 * (block + PHILOX_LANES)) in element order. rng is [seed, step]. */
inline void philoxBlocks(const int32_t *rng, int32_t site, int64_t block, uint32_t *words) {
  constexpr int LANES = VECTOR_BYTES / 8, REGISTERS = PHILOX_LANES / LANES;
  const philoxVec zero = {}, m0 = zero + 0xD2511F53u, m1 = zero + 0xCD9E8D57u;
  philoxVec c0[REGISTERS], c1[REGISTERS], c2[REGISTERS], c3[REGISTERS];  // only the lower half of each lane counts
  for (int r = 0; r < REGISTERS; r++) {
    uint64_t counters[LANES];
    for (int i = 0; i < LANES; i++) counters[i] = uint64_t(block + r * LANES + i);
    memcpy(&c0[r], counters, sizeof counters);
    c1[r] = c0[r] >> 32;
    c2[r] = zero + uint32_t(rng[1]);
    c3[r] = zero;
  }
  uint32_t k0 = uint32_t(rng[0]), k1 = uint32_t(site);
  for (int round = 0; round < 10; round++) {
    for (int r = 0; r < REGISTERS; r++) {
      const philoxVec p0 = multiplyLow(c0[r], m0), p1 = multiplyLow(c2[r], m1);
      c0[r] = (p1 >> 32) ^ c1[r] ^ uint64_t(k0);
      c2[r] = (p0 >> 32) ^ c3[r] ^ uint64_t(k1);
      c1[r] = p1;
      c3[r] = p0;
    }
    k0 += 0x9E3779B9u;
    k1 += 0xBB67AE85u;
  }
  for (int r = 0; r < REGISTERS; r++) {
    const philoxVec low = (c0[r] & 0xffffffffu) | c1[r] << 32, high = (c2[r] & 0xffffffffu) | c3[r] << 32;
    for (int i = 0; i < LANES; i++) {
      const uint64_t pair[] = {low[i], high[i]};  // little-endian: the four words in order
      memcpy(words + 4 * (r * LANES + i), pair, sizeof pair);
    }
  }
}

/** An element is kept iff its word is at least this: a share `rate` in [0,1) of all words is below. */
inline uint32_t dropThreshold(float rate) { return uint32_t(double(rate) * 4294967296.0); }
