// Files as memory, for cpu.ts and memory.cpp. Addresses are integers.
#pragma once
#include <cstdint>

/** All bytes of an open file, whose number is checked, as memory of which writes stay private; 0 where that cannot be. */
extern "C" uint64_t fat5_map(int32_t descriptor, uint64_t bytes);
extern "C" int fat5_unmap(uint64_t address, uint64_t bytes);
/** Reads a part that will be used soon: whole pages at once cost less than one after the other when they are touched. */
extern "C" int fat5_expect(uint64_t address, uint64_t bytes);
/** Takes the whole pages of a part out of this process's memory until they are read again. Private writes are lost. */
extern "C" int fat5_forget(uint64_t address, uint64_t bytes);

/** Whether a mapped file has been cut short: parts of it have been read as zeros. */
bool mappingsDamaged();
