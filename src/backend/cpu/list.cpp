// Kernels one after the other in one call: cpu.ts's recorded lists.
#include <cstdint>

/**
 * `list` holds `count` launches: what calls the kernel (calls.cpp), how many arguments there are, and the arguments.
 * @returns 0, or of the first kernel that failed its place from 1 on, times 16, plus the size of its code
 */
extern "C" int fat5_launch(const uint64_t *list, int64_t count) {
  for (int64_t i = 0; i < count; i++, list += 2 + list[1]) {
    const int code = reinterpret_cast<int (*)(const uint64_t *)>(list[0])(list + 2);
    if (code != 0) return int(i + 1) * 16 - code;
  }
  return 0;
}
