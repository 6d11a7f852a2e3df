// Memory that a kernel needs between its passes: a static thread_local Scratch per use keeps it from call to call.
#pragma once
#include <cstdint>
#include <cstdlib>

class Scratch {
 public:
  ~Scratch() { free(data_); }

  /** At least `count` floats on a cache line's boundary, valid until the next call; null when memory runs out. */
  float *floats(int64_t count) {
    if (count > count_) {
      free(data_);
      data_ = nullptr;
      count_ = 0;
      void *p;
      if (posix_memalign(&p, 64, count * sizeof(float)) != 0) return nullptr;
      data_ = static_cast<float *>(p);
      count_ = count;
    }
    return data_;
  }

 private:
  float *data_ = nullptr;
  int64_t count_ = 0;
};
