// The largest of some values and where it is.
#pragma once
#include "kernel.cuh"

using Key = unsigned long long;

/** Larger for larger values, and among equal ones for lower indices; above 0. */
DEVICE Key keyOf(float v, int index) {
  const unsigned bits = __float_as_uint(v + 0.0f);  // -0 becomes 0
  const unsigned ordered = v != v ? 0 : bits & 0x80000000u ? ~bits : bits | 0x80000000u;
  return Key(ordered) << 32 | unsigned(~unsigned(index));
}
DEVICE int indexOf(Key key) { return int(~unsigned(key)); }

struct LargestKey {
  static DEVICE Key of(Key a, Key b) { return a > b ? a : b; }
  static DEVICE Key none() { return 0; }
};
