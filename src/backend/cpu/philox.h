// Philox4x32-10, the counter-based random numbers of dropout: the word of element e depends on nothing but
// (seed, site, step, e), so the backward pass draws the same ones again. Source and layout: src/util/philox.ts.
#pragma once
#include <cstdint>

/** Blocks computed together, so that the compiler can use whole vector registers. */
constexpr int PHILOX_LANES = 16;

/** The words of elements [4 * block, 4 * (block + PHILOX_LANES)) in element order. rng is [seed, step]. */
inline void philoxBlocks(const int32_t *rng, int32_t site, int64_t block, uint32_t *words) {
  uint32_t c0[PHILOX_LANES], c1[PHILOX_LANES], c2[PHILOX_LANES], c3[PHILOX_LANES];
  for (int i = 0; i < PHILOX_LANES; i++) {
    c0[i] = uint32_t(block + i);
    c1[i] = uint32_t(uint64_t(block + i) >> 32);
    c2[i] = uint32_t(rng[1]);
    c3[i] = 0;
  }
  uint32_t k0 = uint32_t(rng[0]), k1 = uint32_t(site);
  for (int round = 0; round < 10; round++) {
    for (int i = 0; i < PHILOX_LANES; i++) {
      const uint64_t p0 = uint64_t(0xD2511F53u) * c0[i], p1 = uint64_t(0xCD9E8D57u) * c2[i];
      c0[i] = uint32_t(p1 >> 32) ^ c1[i] ^ k0;
      c2[i] = uint32_t(p0 >> 32) ^ c3[i] ^ k1;
      c1[i] = uint32_t(p1);
      c3[i] = uint32_t(p0);
    }
    k0 += 0x9E3779B9u;
    k1 += 0xBB67AE85u;
  }
  for (int i = 0; i < PHILOX_LANES; i++) {
    words[4 * i] = c0[i];
    words[4 * i + 1] = c1[i];
    words[4 * i + 2] = c2[i];
    words[4 * i + 3] = c3[i];
  }
}

/** An element is kept iff its word is at least this: a share `rate` in [0,1) of all words is below. */
inline uint32_t dropThreshold(float rate) { return uint32_t(double(rate) * 4294967296.0); }
