// float8 (e4m3) on the CPU, as util/float8.ts has it: reference quality.
#pragma once
#include <algorithm>
#include "vector_math.h"

constexpr float FLOAT8_LARGEST = 448;

/** The number nearest to x, ties to even, what is beyond 448 to that; x is no NaN. */
inline uint8_t toFloat8(float x) {
  const uint8_t sign = std::signbit(x) ? 0x80 : 0;
  const float size = std::min(std::fabs(x), FLOAT8_LARGEST);
  if (size < 0.015625f) return sign | uint8_t(rintf(size * 512));  // below 2^-6 multiples of 2^-9
  uint32_t u;
  memcpy(&u, &size, 4);
  return sign | uint8_t((u - (120u << 23) + 0x7ffff + (u >> 20 & 1)) >> 20);  // the exponents' biases are 127 and 7
}

/** The values of all bits. */
struct Float8Values {
  float of[256];
  Float8Values() {
    for (int bits = 0; bits < 256; bits++) {
      const int exponent = bits >> 3 & 15, fraction = bits & 7;
      const float size = exponent ? ldexpf(8 + fraction, exponent - 10) : ldexpf(fraction, -9);
      of[bits] = (bits & 0x7f) == 0x7f ? NAN : bits & 0x80 ? -size : size;
    }
  }
};
