// What a product does for the next one on the way: asking memory for what it will read, or packing it.
#pragma once
#include <cstdint>

/** Memory that will be read soon. */
struct Fetch {
  const char *at = nullptr;
  int64_t bytes = 0;

  /** Asks for all of it at once. */
  void now() const {
    for (int64_t i = 0; i < bytes; i += 64) __builtin_prefetch(at + i, 0, 2);
  }

  /** Part `i` of `count` that are about equal. */
  Fetch part(int64_t i, int64_t count) const {
    return {at + bytes * i / count, bytes * (i + 1) / count - bytes * i / count};
  }
};

/** Nothing is done on the way. */
struct Nothing {
  Fetch part() { return {}; }
  void operator()() {}
};
