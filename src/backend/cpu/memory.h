// Memory of whole allocations, for cpu.ts and for kernels that keep work space. Addresses are integers.
#pragma once
#include <cstdint>

/** `bytes` of 256-byte aligned memory, or 0. Large blocks ask for huge pages. */
extern "C" uint64_t fat5_alloc(uint64_t bytes);
extern "C" int fat5_free(uint64_t address);
