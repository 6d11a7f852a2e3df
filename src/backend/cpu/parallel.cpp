// The thread pool. Workers spin briefly for the next job, then block; chunks are taken from a shared counter, so a
// thread whose core a neighbour has taken only delays the chunk it holds.
#include "parallel.h"
#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <cstdlib>
#include <mutex>
#include <thread>
#include <vector>

namespace {

struct Job {
  ChunkFunction fn;
  void *context;
  int64_t count, grain, chunks;
};

constexpr int SPINS = 4000;  // about 50 microseconds of pauses: longer than the gap between two kernels of one step

inline void relax() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  asm volatile("yield");
#endif
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
    {
      std::lock_guard<std::mutex> lock(mutex_);
      active_.store(threads_ - 1, std::memory_order_relaxed);
      generation_.fetch_add(1, std::memory_order_release);
    }
    if (sleeping_.load() > 0) wake_.notify_all();
    drain();
    while (active_.load(std::memory_order_acquire) > 0) relax();
    inside_ = false;
    caller_.unlock();
  }

 private:
  static void chunk(const Job &job, int64_t i) {
    job.fn(job.context, i * job.grain, std::min(job.count, (i + 1) * job.grain));
  }

  void drain() {
    for (int64_t i; (i = next_.fetch_add(1, std::memory_order_relaxed)) < job_.chunks;) chunk(job_, i);
  }

  void work() {
    inside_ = true;
    for (uint64_t seen = 0;;) {
      for (int spin = 0; spin < SPINS && generation_.load(std::memory_order_acquire) == seen; spin++) relax();
      if (generation_.load(std::memory_order_acquire) == seen) {
        std::unique_lock<std::mutex> lock(mutex_);
        sleeping_++;
        wake_.wait(lock, [&] { return generation_.load() != seen; });
        sleeping_--;
      }
      seen++;
      drain();
      active_.fetch_sub(1, std::memory_order_release);
    }
  }

  int threads_;
  Job job_{};
  std::atomic<int64_t> next_{0};
  std::atomic<int> active_{0}, sleeping_{0};
  std::atomic<uint64_t> generation_{0};
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
