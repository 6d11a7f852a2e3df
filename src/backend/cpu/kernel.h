// What every CPU kernel includes. A kernel is extern "C", returns OK or a negative code, and never prints, throws or
// exits: shapes were checked before it was called. Each .cpp of an op is compiled once per instruction set and compute
// type; T is the compute type, loaded and stored through float. Sums are taken in float.
#pragma once
#include <cmath>
#include <cstdint>
#include <cstring>
#include "parallel.h"

/** bfloat16: the upper half of a float, rounded to nearest even when stored. */
struct bf16 {
  uint16_t bits;
  bf16() = default;
  bf16(float x) {
    uint32_t u;
    memcpy(&u, &x, 4);
    bits = x != x ? uint16_t(u >> 16 | 0x40) : uint16_t((u + 0x7fff + (u >> 16 & 1)) >> 16);
  }
  operator float() const {
    const uint32_t u = uint32_t(bits) << 16;
    float x;
    memcpy(&x, &u, 4);
    return x;
  }
};

/** IEEE half precision, rounded to nearest even when stored; half.h has whole vectors. */
struct half {
  uint16_t bits;
  half() = default;
  half(float x) {
    uint32_t u;
    memcpy(&u, &x, 4);
    const uint16_t sign = u >> 16 & 0x8000;
    u &= 0x7fffffff;
    float size;
    memcpy(&size, &u, 4);
    if (u > 0x7f800000) bits = sign | 0x7e00;
    else if (u >= 0x477ff000) bits = sign | 0x7c00;  // 65520 and more
    else if (u >= 0x38800000) bits = sign | uint16_t((u - 0x38000000 + 0xfff + (u >> 13 & 1)) >> 13);
    else bits = sign | uint16_t(nearbyintf(size * 16777216.0f));  // multiples of 2^-24
  }
  operator float() const {
    const uint32_t exponent = bits >> 10 & 31, fraction = bits & 0x3ff;
    if (exponent == 0) return (bits & 0x8000 ? -1 : 1) * float(fraction) * 5.9604644775390625e-8f;  // 2^-24
    const uint32_t u = uint32_t(bits & 0x8000) << 16 | (exponent == 31 ? 255 : exponent + 112) << 23 | fraction << 13;
    float x;
    memcpy(&x, &u, 4);
    return x;
  }
};

#if defined(COMPUTE_BF16)
using T = bf16;
#define SYMBOL(name) name##_bf16
#else
using T = float;
#define SYMBOL(name) name##_f32
#endif

#define KERNEL(name) extern "C" int SYMBOL(name)
#define OK 0
#define OUT_OF_MEMORY -1
#define BAD_INDEX -2  // an id or label outside its range; cpu.ts has the words
#define BAD_SCALAR -3

// Floats of one vector register; arithmetic on them is the compiler's, so the same source serves every instruction set.
constexpr int W = VECTOR_BYTES / 4;
typedef float vec __attribute__((vector_size(VECTOR_BYTES)));
typedef int32_t ivec __attribute__((vector_size(VECTOR_BYTES)));

// Every kernel's prototype, generated from its contract: a definition that differs does not compile.
#include "prototypes.h"
