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
