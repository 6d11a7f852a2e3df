// Hopper's copy engine and what waits for it: tensor maps, barriers in shared memory, blocks that form a cluster.
// PTX ISA: "cp.async.bulk.tensor", "mbarrier", "Cluster".
#pragma once
#include "kernel.cuh"

/** What cuTensorMapEncodeTiled writes: a matrix in memory and the box that one copy takes from it. */
struct alignas(64) TensorMap {
  unsigned long long words[16];
};

DEVICE unsigned sharedAddress(const void *p) { return unsigned(__cvta_generic_to_shared(p)); }

using Barrier = unsigned long long;

DEVICE void initialise(Barrier *b, int arrivals) {
  asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(sharedAddress(b)), "r"(arrivals) : "memory");
}
/** This block arrives; the phase ends when `bytes` have been copied as well. */
DEVICE void expect(Barrier *b, int bytes) {
  asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(sharedAddress(b)), "r"(bytes) : "memory");
}
/**
 * Arrives at the same barrier of a block of the cluster, which orders nothing beyond this block: what is freed was read by tensor cores
 * alone. A release for the whole cluster would wait for memory each time, half a microsecond.
 */
DEVICE void arriveAt(Barrier *b, unsigned block) {
  asm volatile(
      "{.reg .b32 there; mapa.shared::cluster.u32 there, %0, %1;\n"
      "mbarrier.arrive.shared::cluster.b64 _, [there];}" ::"r"(sharedAddress(b)),
      "r"(block)
      : "memory");
}
/** Until the phase of this parity has ended. */
DEVICE void waitFor(Barrier *b, int parity) {
  asm volatile(
      "{.reg .pred done;\n"
      "again: mbarrier.try_wait.parity.shared::cta.b64 done, [%0], %1;\n"
      "@done bra ready;\n"
      "bra again;\n"
      "ready:}" ::"r"(sharedAddress(b)),
      "r"(parity)
      : "memory");
}

/** How long lines of a matrix should stay in L2: hints of the copy engine. */
constexpr unsigned long long AS_ANY = 0x1000000000000000ull, READ_ONCE = 0x12F0000000000000ull,
                             READ_AGAIN = 0x14F0000000000000ull;

/** Copies the box at (column, row) into shared memory of all blocks in `mask`, at the same place and barrier in each. */
template <bool MANY>
DEVICE void copyBox(void *to, const TensorMap *map, int column, int row, Barrier *b, unsigned short mask,
                    unsigned long long keep) {
  if constexpr (MANY)
    asm volatile(
        "cp.async.bulk.tensor.2d.shared::cluster.global.mbarrier::complete_tx::bytes.multicast::cluster.L2::cache_hint"
        " [%0], [%1, {%2, %3}], [%4], %5, %6;" ::"r"(sharedAddress(to)),
        "l"(map), "r"(column), "r"(row), "r"(sharedAddress(b)), "h"(mask), "l"(keep)
        : "memory");
  else
    asm volatile(
        "cp.async.bulk.tensor.2d.shared::cluster.global.mbarrier::complete_tx::bytes.L2::cache_hint"
        " [%0], [%1, {%2, %3}], [%4], %5;" ::"r"(sharedAddress(to)),
        "l"(map), "r"(column), "r"(row), "r"(sharedAddress(b)), "l"(keep)
        : "memory");
}
DEVICE void fetchMap(const TensorMap *map) { asm volatile("prefetch.tensormap [%0];" ::"l"(map) : "memory"); }

DEVICE unsigned rankInCluster() {
  unsigned rank;
  asm volatile("mov.u32 %0, %%cluster_ctarank;" : "=r"(rank));
  return rank;
}
/** All threads of a cluster; of what was written before, barriers' beginnings alone are seen behind it. */
DEVICE void meetCluster() {
  asm volatile("barrier.cluster.arrive.relaxed.aligned;\nbarrier.cluster.wait.aligned;" ::: "memory");
}

template <int REGISTERS> DEVICE void takeRegisters() {
  asm volatile("setmaxnreg.inc.sync.aligned.u32 %0;" ::"n"(REGISTERS));
}
template <int REGISTERS> DEVICE void giveRegisters() {
  asm volatile("setmaxnreg.dec.sync.aligned.u32 %0;" ::"n"(REGISTERS));
}
