// How the blocks of one launch send each other values: every word carries its value and a tag that no earlier word in its
// place had, so that whoever waits for a value reads it in the same moment. No fences, no barriers over the grid.
#pragma once
#include "kernel.cuh"

using Word = unsigned long long;

/** Looks at a word before a launch gives up: seconds. What is waited for then does not come. */
constexpr int PATIENCE = 1 << 23;

DEVICE Word look(const Word *at) {
  Word w;
  asm volatile("ld.relaxed.gpu.global.u64 %0, [%1];" : "=l"(w) : "l"(at) : "memory");
  return w;
}

DEVICE void send(Word *to, unsigned value, unsigned tag) {
  asm volatile("st.relaxed.gpu.global.u64 [%0], %1;" ::"l"(to), "l"(Word(tag) << 32 | value) : "memory");
}
DEVICE void send(Word *to, float value, unsigned tag) { send(to, __float_as_uint(value), tag); }

/** The values of words first, first + stride, … below count, as soon as all have come. */
template <int N> DEVICE void receive(const Word *from, int first, int stride, int count, unsigned tag, unsigned (&v)[N]) {
  for (int looks = 0;; looks++) {
    Word words[N];
#pragma unroll
    for (int j = 0; j < N; j++) words[j] = first + j * stride < count ? look(from + first + j * stride) : Word(tag) << 32;
    bool all = true;
#pragma unroll
    for (int j = 0; j < N; j++) {
      v[j] = unsigned(words[j]);
      all &= unsigned(words[j] >> 32) == tag;
    }
    if (all) return;
    if (looks == PATIENCE) __trap();
  }
}
template <int N> DEVICE void receive(const Word *from, int first, int stride, int count, unsigned tag, float (&v)[N]) {
  unsigned bits[N];
  receive(from, first, stride, count, tag, bits);
#pragma unroll
  for (int j = 0; j < N; j++) v[j] = __uint_as_float(bits[j]);
}
