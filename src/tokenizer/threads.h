// Runs one function on several threads, the caller's among them.
#pragma once
#include <atomic>
#include <new>
#include <system_error>
#include <thread>
#include <vector>

namespace tokenizer {

/** Calls work(t) for t < threads at the same time and waits. @throws std::bad_alloc if one of them did */
template <class Work> void inThreads(int threads, Work work) {
  std::atomic<bool> failed{false};
  const auto guarded = [&](int thread) {
    try {
      work(thread);
    } catch (const std::bad_alloc &) {
      failed = true;
    }
  };
  std::vector<std::thread> helpers;
  try {
    for (int t = 1; t < threads; t++) helpers.emplace_back(guarded, t);
  } catch (const std::system_error &) {
    // no more threads to be had: those that run share the work
  }
  if (threads > 0) guarded(0);
  for (std::thread &helper : helpers) helper.join();
  if (failed) throw std::bad_alloc();
}

} // namespace tokenizer
