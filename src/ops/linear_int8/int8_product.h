// Rows in int8 times weights in int8, spread over the threads: by rows where there are many, else by outputs.
#pragma once
#include <atomic>
#include "int8_dots.h"
#if defined(__AMX_TILE__)
#include "int8_tiles.h"
#endif

namespace {

constexpr int64_t TASK_BYTES = 1 << 16, TASKS_OF_THREAD = 8;
constexpr int64_t SERIAL_OPERATIONS = 1 << 17;  // less is done before another thread has begun
constexpr int64_t SERIAL_NUMBERS = 1 << 14;     // as many are quantised at least by a thread
constexpr int64_t MOST_ROWS = 128;              // of a task: with what is made of them they stay in the second cache level
constexpr int64_t LEAST_ROWS = 64;              // of each thread, below which each would read all weights for too little
[[maybe_unused]] constexpr int64_t LEAST_TILED_ROWS = 9;  // fewer are multiplied as fast as weights are read

/** body(D{}) with the best Dots that this processor has for N rows of numbers in multiples of `terms`. */
template <class Body> int withDots([[maybe_unused]] int64_t N, [[maybe_unused]] int64_t terms, const Body &body) {
#if defined(__AMX_TILE__)
  if (N >= LEAST_TILED_ROWS && terms % TERMS == 0) return body(TileDots{});
#endif
#if defined(__AVX512F__)
  if (__builtin_cpu_supports("avx512vnni")) return body(VnniDots{});
#endif
  return body(PairDots{});
}

/** Rows of a task where threads share the rows, 0 where they share the outputs. Results do not depend on it. */
inline int64_t rowsOfTask(int64_t N) {
  const int64_t each = N / threadCount();
  if (each < LEAST_ROWS) return 0;
  const int64_t tasks = (each + MOST_ROWS - 1) / MOST_ROWS * threadCount();
  return ((N + tasks - 1) / tasks + 31) / 32 * 32;
}

/** Pairs of panels of a task, where threads share the outputs; `width` weights a pair. */
inline int64_t pairsOfTask(int64_t pairs, int64_t width, int64_t N) {
  if (pairs * width * N < SERIAL_OPERATIONS) return pairs;
  const int64_t most = pairs / (TASKS_OF_THREAD * threadCount());
  return std::max<int64_t>(1, std::min(most, TASK_BYTES / width));
}

/** body(begin, end, memory) for parts of [0, count), with so many floats of the thread's own; false if memory ran out. */
template <class Body> bool withMemory(int64_t count, int64_t grain, int64_t floats, const Body &body) {
  std::atomic<bool> failed{false};
  parallelFor(count, grain, [&](int64_t begin, int64_t end) {
    static thread_local Scratch scratch;
    float *memory = scratch.floats(floats);
    if (memory) body(begin, end, memory);
    else failed = true;
  });
  return !failed;
}

/** Room for the copies of two panels. */
struct PairRoom {
  int8_t *first, *second;
  PairRoom(float *memory, int64_t I)
      : first(reinterpret_cast<int8_t *>(memory)), second(first + PANEL * padded(I)) {}
  static int64_t size(int64_t I) { return 2 * PANEL * padded(I) / 4; }
};

/** Rows [0, count) times the panels 2 * pair and 2 * pair + 1 of a weight; of the latter there may be none. */
template <class D, class R, class Out>
void multiplyPair(const R &rows, int64_t count, const Packed &weight, int64_t pair, const PairRoom &room, const Out &out) {
  const int8_t *first = weight.at(2 * pair, room.first);
  const int8_t *second = 2 * pair + 1 < weight.panels() ? weight.at(2 * pair + 1, room.second) : first;
  D::multiply(rows, 0, count, first, second, out);
}

enum class Write { REPLACE, ADD };

/** Outputs of a pair of panels: y[n,o], N rows of weight.O, from sums of `count` rows from n on. */
template <Write HOW, class Y, class R>
void writePair(const R &rows, const Packed &weight, int64_t pair, int64_t n, int64_t count, const int32_t *sums, Y *y) {
  for (int at = 0; at < BOTH; at += W) {
    const int64_t o = pair * BOTH + at, left = weight.O - o;
    if (left <= 0) return;
    const vec scale = weight.scale(o);
    const auto write = [&](auto part) {
      for (int64_t r = 0; r < count; r++) {
        Y *to = y + (n + r) * weight.O + o;
        const vec value = worth(sums + r * BOTH + at, rows.steps[n + r], scale);
        store(to, HOW == Write::ADD ? load(to, part) + value : value, part);
      }
    };
    if (left >= W) write(Whole{});
    else write(left);
  }
}

}  // namespace
