// What both C interfaces share: nothing throws across the boundary.
#pragma once
#include <cstdint>
#include <new>
#include <stdexcept>

namespace tokenizer {

enum Problem : int32_t { OUT_OF_MEMORY = -1, BAD_STRINGS = -2, MISSING_PIECE = -3, DECLINED = -4 };

/** body()'s result, or a Problem. */
template <class Body> int64_t guarded(Body body) {
  try {
    return body();
  } catch (const std::length_error &) {
    return BAD_STRINGS;
  } catch (const std::exception &) {
    return OUT_OF_MEMORY;
  }
}

} // namespace tokenizer
