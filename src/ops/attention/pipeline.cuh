// Warpgroups with tasks of their own: gates between them in shared memory, registers by need (sm_90a).
// Instructions: PTX ISA, "mbarrier" and "setmaxnreg".
#pragma once
#include "wgmma.cuh"

/** In shared memory: opens once all arrivals it was made for have come, then waits for as many again. */
using Gate = unsigned long long;

DEVICE void makeGate(Gate *gate, int arrivals) {
  asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(unsigned(__cvta_generic_to_shared(gate))), "r"(arrivals));
}
/** One arrival for the warp, behind everything its lanes did. */
DEVICE void arrive(Gate *gate) {
  __syncwarp();
  if (threadIdx.x % WARP == 0)
    asm volatile("mbarrier.arrive.shared::cta.b64 _, [%0];" ::"r"(unsigned(__cvta_generic_to_shared(gate))) : "memory");
}
/** Until the gate has opened an odd number of times (parity 0) or an even one (parity 1, so at first too). */
DEVICE void pass(Gate *gate, int parity) {
  unsigned open;
  do {
    asm volatile("{.reg .pred p; mbarrier.try_wait.parity.shared::cta.b64 p, [%1], %2; selp.u32 %0, 1, 0, p;}"
                 : "=r"(open)
                 : "r"(unsigned(__cvta_generic_to_shared(gate))), "r"(parity)
                 : "memory");
  } while (!open);
}

/** Which of COUNT places the next of a row of things takes, and how often it went around. */
template <int COUNT> struct Ring {
  int place = 0, parity = 0;
  DEVICE void advance() {
    if (++place < COUNT) return;
    place = 0;
    parity ^= 1;
  }
};

/** A barrier of some of the block's threads; numbers from 1 on. */
template <int NUMBER, int THREADS> DEVICE void barrier() {
  asm volatile("bar.sync %0, %1;" ::"n"(NUMBER), "n"(THREADS) : "memory");
}
/** The same where the number is known at run time only. */
template <int THREADS> DEVICE void barrier(int number) {
  asm volatile("bar.sync %0, %1;" ::"r"(number), "n"(THREADS) : "memory");
}
/** The thread's arrival at such a barrier, without waiting. */
template <int THREADS> DEVICE void arriveAt(int number) {
  asm volatile("bar.arrive %0, %1;" ::"r"(number), "n"(THREADS) : "memory");
}
/** The thread's arrival at a gate once what it copied until now is there. */
DEVICE void arriveWhenCopied(Gate *gate) {
  asm volatile("cp.async.mbarrier.arrive.noinc.shared::cta.b64 [%0];" ::"r"(unsigned(__cvta_generic_to_shared(gate))) : "memory");
}
/** Registers of each of the warpgroup's threads from here on. */
template <int COUNT> DEVICE void takeRegisters() { asm volatile("setmaxnreg.inc.sync.aligned.u32 %0;" ::"n"(COUNT)); }
template <int COUNT> DEVICE void leaveRegisters() { asm volatile("setmaxnreg.dec.sync.aligned.u32 %0;" ::"n"(COUNT)); }
