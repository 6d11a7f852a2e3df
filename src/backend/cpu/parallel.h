// The thread pool's face: parallelFor splits [0, count) into chunks and runs them on all threads. See parallel.cpp.
#pragma once
#include <cstdint>

typedef void (*ChunkFunction)(void *context, int64_t begin, int64_t end);

/** Runs fn on every chunk of at most `grain` indices; returns when all are done. Nested calls run on the caller. */
void parallelChunks(int64_t count, int64_t grain, ChunkFunction fn, void *context);

/** Threads that parallelFor uses, the caller included. */
int threadCount();

/**
 * body(begin, end) for consecutive chunks of at most `grain` indices, in no order, each once. Chunks do not depend on
 * the number of threads, so results that are formed per chunk do not either.
 */
template <class Body> void parallelFor(int64_t count, int64_t grain, const Body &body) {
  parallelChunks(
      count, grain,
      [](void *context, int64_t begin, int64_t end) { (*static_cast<const Body *>(context))(begin, end); },
      const_cast<void *>(static_cast<const void *>(&body)));
}
