// Files as memory, for cpu.ts: weights are used where the system's cache holds them, without a copy.
//
// A file that is cut short while it is mapped would end the process with SIGBUS at the next access behind its new end. The
// handler puts zeros there instead and notes it; fat5_read then refuses to hand out results (memory.cpp).
#include "mapping.h"
#include <atomic>
#if defined(__linux__)
#include <csignal>
#include <mutex>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

namespace {

struct Mapping {
  std::atomic<uint64_t> begin{0}, end{0};
  std::atomic<bool> damaged{false};
};

const uint64_t PAGE = uint64_t(sysconf(_SC_PAGESIZE));  // 64 KiB on some ARM systems
constexpr int MOST = 1024;
Mapping mappings[MOST];
std::atomic<int> damagedCount{0};
std::mutex changes;
struct sigaction before;

/** Runs in the thread that touched a page without a file behind it; calls nothing but mmap. */
void onMissingPage(int number, siginfo_t *info, void *context) {
  const uint64_t address = uint64_t(info->si_addr);
  for (Mapping &m : mappings) {
    const uint64_t begin = m.begin.load(), end = m.end.load();
    if (address < begin || address >= end) continue;
    const uint64_t page = address & ~(PAGE - 1);
    void *zeros = mmap(reinterpret_cast<void *>(page), end - page, PROT_READ | PROT_WRITE,
                       MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED | MAP_NORESERVE, -1, 0);
    if (zeros == MAP_FAILED) break;
    if (!m.damaged.exchange(true)) damagedCount++;
    return;
  }
  if (before.sa_flags & SA_SIGINFO) before.sa_sigaction(number, info, context);
  else if (before.sa_handler != SIG_DFL && before.sa_handler != SIG_IGN) before.sa_handler(number);
  else sigaction(SIGBUS, &before, nullptr);  // the access is tried again and ends the process as it would have
}

void watch() {
  static bool done = false;
  if (done) return;
  struct sigaction action = {};
  action.sa_sigaction = onMissingPage;
  action.sa_flags = SA_SIGINFO | SA_ONSTACK;
  sigemptyset(&action.sa_mask);
  done = sigaction(SIGBUS, &action, &before) == 0;
}

}  // namespace

bool mappingsDamaged() { return damagedCount.load(std::memory_order_relaxed) > 0; }

extern "C" uint64_t fat5_map(int32_t descriptor, uint64_t bytes) {
  struct stat info;
  if (bytes == 0 || fstat(descriptor, &info) != 0 || uint64_t(info.st_size) != bytes) return 0;
  const std::lock_guard<std::mutex> lock(changes);
  Mapping *free = nullptr;
  for (Mapping &m : mappings)
    if (m.begin.load() == 0) free = &m;
  if (!free) return 0;
  watch();
  // Writable, so that a stray write changes this process's copy of a page instead of ending it.
  void *p = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_NORESERVE, descriptor, 0);
  if (p == MAP_FAILED) return 0;
  free->damaged = false;
  free->end = uint64_t(p) + ((bytes + PAGE - 1) & ~(PAGE - 1));
  free->begin = uint64_t(p);
  return uint64_t(p);
}

extern "C" int fat5_unmap(uint64_t address, uint64_t bytes) {
  const std::lock_guard<std::mutex> lock(changes);
  for (Mapping &m : mappings)
    if (m.begin.load() == address) {
      m.begin = 0;
      m.end = 0;
      if (m.damaged.exchange(false)) damagedCount--;
    }
  return munmap(reinterpret_cast<void *>(address), bytes);
}

extern "C" int fat5_expect(uint64_t address, uint64_t bytes) {
  constexpr int POPULATE_READ = 22;  // MADV_POPULATE_READ, which older headers lack; older systems refuse
  const uint64_t begin = address & ~(PAGE - 1);
  return madvise(reinterpret_cast<void *>(begin), address + bytes - begin, POPULATE_READ);
}

extern "C" int fat5_forget(uint64_t address, uint64_t bytes) {
  const uint64_t begin = (address + PAGE - 1) & ~(PAGE - 1), end = (address + bytes) & ~(PAGE - 1);
  return end > begin ? madvise(reinterpret_cast<void *>(begin), end - begin, MADV_DONTNEED) : 0;
}

#else

bool mappingsDamaged() { return false; }
extern "C" uint64_t fat5_map(int32_t, uint64_t) { return 0; }
extern "C" int fat5_unmap(uint64_t, uint64_t) { return 0; }
extern "C" int fat5_expect(uint64_t, uint64_t) { return 0; }
extern "C" int fat5_forget(uint64_t, uint64_t) { return 0; }

#endif
