// Memory that a kernel needs between its passes: a static thread_local Scratch per use keeps it from call to call.
#pragma once
#include "memory.h"

class Scratch {
 public:
  ~Scratch() { fat5_free(address_); }

  /** At least `count` floats on a cache line's boundary, valid until the next call; null when memory runs out. */
  float *floats(int64_t count) {
    if (count > count_) {
      fat5_free(address_);
      address_ = fat5_alloc(uint64_t(count) * sizeof(float));
      count_ = address_ ? count : 0;
    }
    return reinterpret_cast<float *>(address_);
  }

 private:
  uint64_t address_ = 0;
  int64_t count_ = 0;
};
