// Aligned memory and copies for cpu.ts. Addresses cross the boundary as integers.
#include "memory.h"
#include "mapping.h"
#include <cstdlib>
#include <cstring>
#if defined(__linux__)
#include <sys/mman.h>
#endif

extern "C" uint64_t fat5_alloc(uint64_t bytes) {
  const uint64_t alignment = bytes >= (2u << 20) ? (2u << 20) : 256;
  void *p = nullptr;
  if (posix_memalign(&p, alignment, bytes) != 0) return 0;
#if defined(__linux__)
  if (alignment > 256) madvise(p, bytes, MADV_HUGEPAGE);
#endif
  return uint64_t(p);
}

extern "C" int fat5_free(uint64_t address) {
  free(reinterpret_cast<void *>(address));
  return 0;
}

extern "C" int fat5_zero(uint64_t address, uint64_t bytes) {
  memset(reinterpret_cast<void *>(address), 0, bytes);
  return 0;
}

extern "C" int fat5_write(uint64_t to, const void *from, uint64_t bytes) {
  memcpy(reinterpret_cast<void *>(to), from, bytes);
  return 0;
}

/** @returns nonzero if a mapped file lacked bytes, which may be why the numbers are wrong */
extern "C" int fat5_read(uint64_t from, void *to, uint64_t bytes) {
  memcpy(to, reinterpret_cast<const void *>(from), bytes);
  return mappingsDamaged();
}
