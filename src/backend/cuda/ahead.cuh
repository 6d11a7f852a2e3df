// Launches that begin before the one before has ended (`ahead` in plan.ts): what does not depend on it is read meanwhile.
#pragma once
#include "kernel.cuh"

/** The next launch may begin, as far as there is room: it waits for this one by itself. */
DEVICE void letNextBegin() {
#if __CUDA_ARCH__ >= 900
  asm volatile("griddepcontrol.launch_dependents;" ::: "memory");
#endif
}

/** Until all that was launched before is done and seen. Every kernel of a chain must call it before it reads or writes. */
DEVICE void waitForEarlier() {
#if __CUDA_ARCH__ >= 900
  asm volatile("griddepcontrol.wait;" ::: "memory");
#endif
}
