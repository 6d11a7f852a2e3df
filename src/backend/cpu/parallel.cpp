// The thread pool. Workers spin briefly for the next job, then block; chunks are taken from a shared counter, so a
// thread whose core a neighbour has taken delays only the chunk it holds. A worker that comes late, because it slept or
// has no core, finds the job closed: nobody waits for it.
#include "parallel.h"
#include <algorithm>
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstdlib>
#include <mutex>
#include <thread>

namespace {

struct Job {
  ChunkFunction fn;
  void *context;
  int64_t count, grain, chunks;
};

constexpr auto SPIN = std::chrono::microseconds(50);  // longer than the gap between two kernels of one step
constexpr int PAUSES = 32;                            // between two looks at the clock

inline void relax() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  asm volatile("yield");
#endif
}

/** Spins until `done` or for SPIN; returns whether it is done. */
template <class Done> bool spinUntil(const Done &done) {
  const auto end = std::chrono::steady_clock::now() + SPIN;
  do {
    for (int i = 0; i < PAUSES; i++) {
      if (done()) return true;
      relax();
    }
  } while (std::chrono::steady_clock::now() < end);
  return done();
}

class Pool {
 public:
  Pool() {
    int wanted = int(std::thread::hardware_concurrency());
    if (const char *text = getenv("FAT5_THREADS")) wanted = atoi(text);
    threads_ = std::max(1, std::min(wanted, 256));
    for (int i = 1; i < threads_; i++) std::thread([this] { work(); }).detach();
  }

  int threads() const { return threads_; }

  void run(const Job &job) {
    // A second caller (another JavaScript thread) and nested calls do their work alone.
    if (threads_ == 1 || job.chunks == 1 || inside_ || !caller_.try_lock()) {
      for (int64_t i = 0; i < job.chunks; i++) chunk(job, i);
      return;
    }
    inside_ = true;
    job_ = job;
    next_.store(0, std::memory_order_relaxed);
    state_.fetch_add(OPEN);  // also a new generation: the counter above the open bit grows when the job is closed
    if (sleeping_.load() > 0) {
      { std::lock_guard<std::mutex> lock(mutex_); }  // a worker between its last look and its sleep holds the mutex
      wake_.notify_all();
    }
    drain();
    state_.fetch_add(OPEN);
    while (!spinUntil([this] { return (state_.load() & WORKERS) == 0; })) std::this_thread::yield();
    inside_ = false;
    caller_.unlock();
  }

 private:
  // state_: in the low bits the workers inside the job, above them a count that is odd while a job is open.
  static constexpr uint64_t WORKERS = 0xffff, OPEN = 0x10000;

  static void chunk(const Job &job, int64_t i) {
    job.fn(job.context, i * job.grain, std::min(job.count, (i + 1) * job.grain));
  }

  void drain() {
    for (int64_t i; (i = next_.fetch_add(1, std::memory_order_relaxed)) < job_.chunks;) chunk(job_, i);
  }

  void work() {
    inside_ = true;
    for (uint64_t seen = 0;;) {
      const auto opened = [&] {
        const uint64_t state = state_.load();
        return (state & OPEN) && (state & ~WORKERS) != seen;
      };
      if (!spinUntil(opened)) {
        std::unique_lock<std::mutex> lock(mutex_);
        sleeping_++;
        wake_.wait(lock, opened);
        sleeping_--;
      }
      // Entering announces this worker; only then does the open bit say that the job may be read.
      const uint64_t state = state_.fetch_add(1);
      if (state & OPEN) {
        seen = state & ~WORKERS;
        drain();
      }
      state_.fetch_sub(1);
    }
  }

  int threads_;
  Job job_{};
  std::atomic<int64_t> next_{0};
  alignas(64) std::atomic<uint64_t> state_{0};
  alignas(64) std::atomic<int> sleeping_{0};
  std::mutex mutex_, caller_;
  std::condition_variable wake_;
  static thread_local bool inside_;
};

thread_local bool Pool::inside_ = false;

Pool &pool() {
  static Pool *instance = new Pool;  // never destroyed: its threads run until the process ends
  return *instance;
}

}  // namespace

void parallelChunks(int64_t count, int64_t grain, ChunkFunction fn, void *context) {
  if (count <= 0) return;
  grain = std::max<int64_t>(1, grain);
  pool().run({fn, context, count, grain, (count + grain - 1) / grain});
}

int threadCount() { return pool().threads(); }
extern "C" int fat5_threads() { return threadCount(); }
