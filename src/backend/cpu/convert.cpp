// Numbers from one float type to another, for cpu.ts.
#include <type_traits>
#include "half.h"

namespace {

constexpr int64_t GRAIN = 1 << 15;

template <class A, class B> void convert(A *to, const B *from, int64_t count) {
  parallelFor(count, GRAIN, [=](int64_t begin, int64_t end) {
    if (std::is_same<A, B>::value) memcpy(static_cast<void *>(to + begin), from + begin, (end - begin) * sizeof(A));
    else forVectors(begin, end, [=](int64_t i, auto part) { store(to + i, load(from + i, part), part); });
  });
}

/** Calls body with a null pointer of the type that cpu.ts gives the number. */
template <class Body> void withType(int32_t number, const Body &body) {
  if (number == 0) body(static_cast<float *>(nullptr));
  else if (number == 1) body(static_cast<bf16 *>(nullptr));
  else body(static_cast<half *>(nullptr));
}

}  // namespace

extern "C" int fat5_convert(uint64_t to, int32_t toType, uint64_t from, int32_t fromType, int64_t count) {
  withType(toType, [=](auto *a) {
    withType(fromType, [=](auto *b) {
      convert(reinterpret_cast<decltype(a)>(to), reinterpret_cast<decltype(b)>(from), count);
    });
  });
  return OK;
}
