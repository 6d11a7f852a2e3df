// What a warp reads of device memory and nobody writes meanwhile, matrices and the keys and values of cross-attention, in the
// order in which it will be used: DEPTH slots are always on the way, across layers and tokens. A lane only ever takes what
// it asked for itself.
#pragma once
#include "shapes.cuh"

DEVICE void copyAhead(void *to, const void *from, bool real) {
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(unsigned(__cvta_generic_to_shared(to))), "l"(from),
               "r"(real ? 16 : 0)
               : "memory");
}
DEVICE void closeSlot() { asm volatile("cp.async.commit_group;" ::: "memory"); }
/** All slots but the newest N have come. */
template <int N> DEVICE void waitSlots() { asm volatile("cp.async.wait_group %0;" ::"n"(N) : "memory"); }

class Feed {
  const Problem &p;
  const Shared &shared;
  const int *places;
  uint4 *const slots;  // this lane's piece of slot 0; the next slot's is WARP further
  const int warp, lane;
  // What is asked for next: a matrix's row or some keys, `pieces` slots of which this lane has `real`.
  const char *at;
  i64 stride;
  int pieces = 0, real, layer = 0, token = 0, work = QKV, row, task, group, half;
  int head = 0, tail = 0, owed = 0;

  DEVICE void begin(int next) {
    if (next == LOGITS && layer + 1 < p.L) {
      layer++;
      next = QKV;
    } else if (next == WORKS) {
      token++;
      layer = 0;
      next = QKV;
    }
    work = next;
    row = firstRow(next);
    task = blockIdx.x;
    group = warp;
    half = 0;
  }

  DEVICE void matrixRow(const T *matrix, int index, int width) {
    at = reinterpret_cast<const char *>(matrix + i64(index) * width) + lane * 16;
    stride = SLOT * sizeof(T);
    pieces = slotsFor(width);
    const int over = width - lane * PER;
    real = over > 0 ? slotsFor(over) : 0;
  }

  DEVICE const T *matrix(int place) const { return p.parameters + i64(places[layer * PLACES + place]) * 64; }

  DEVICE void nextPieces() {
    for (;;) {
      if (work == CROSS) {
        if (task >= ROWS * HEADS) {
          begin(CROSS_OUT);
          continue;
        }
        const int n = groupsFrom(group);
        if (n == 0) {
          task += BLOCKS;
          group = warp;
          continue;
        }
        const int key = group * TOGETHER + lane / LANES, r = task / HEADS, h = task % HEADS;
        at = reinterpret_cast<const char *>((half ? p.crossValues : p.crossKeys) +
                                            (i64(layer * ROWS + r) * p.S + key) * INNER + h * HEAD_WIDTH) +
             lane % LANES * 16;
        stride = i64(WARPS) * TOGETHER * INNER * sizeof(T);
        pieces = n;
        real = key < p.S ? (p.S - 1 - key) / (WARPS * TOGETHER) + 1 : 0;
        if (half) group += n * WARPS;
        half ^= 1;
        return;
      }
      if (row >= shared.end[work]) {
        begin(work + 1);
        continue;
      }
      const int index = row;
      if (work == UP && GATED) {
        matrixRow(matrix(half ? UP_MATRIX : GATE_MATRIX), index, WIDTH);
        if (half) row += WARPS;
        half ^= 1;
        return;
      }
      row += WARPS;
      switch (work) {
        case QKV: return matrixRow(matrix(Q + index / INNER), index % INNER, WIDTH);
        case OUT: return matrixRow(matrix(O), index, INNER);
        case CROSS_QUERY: return matrixRow(matrix(CROSS_Q), index, WIDTH);
        case CROSS_OUT: return matrixRow(matrix(CROSS_O), index, INNER);
        case UP: return matrixRow(matrix(UP_MATRIX), index, WIDTH);
        case DOWN: return matrixRow(matrix(DOWN_MATRIX), index, HIDDEN);
        default: return matrixRow(p.head, index, WIDTH);
      }
    }
  }

  DEVICE void ask() {
    if (token < p.steps && pieces == 0) nextPieces();
    if (token < p.steps) {
      copyAhead(slots + head * WARP, at, real > 0);
      at += stride;
      real--;
      pieces--;
    }
    closeSlot();
    head = head + 1 == DEPTH ? 0 : head + 1;
  }

 public:
  DEVICE Feed(const Problem &problem, const Shared &sharedMemory, const int *placesOfLayers, uint4 *memory)
      : p(problem), shared(sharedMemory), places(placesOfLayers),
        slots(memory + threadIdx.x / WARP * DEPTH * WARP + threadIdx.x % WARP), warp(threadIdx.x / WARP),
        lane(threadIdx.x % WARP) {
    begin(QKV);
    for (int i = 0; i < DEPTH; i++) ask();
  }

  /** The first row of a product that is this warp's; the next is WARPS further. */
  DEVICE int firstRow(int of) const { return shared.begin[of] + (warp + WARPS - shared.turn[of]) % WARPS; }

  /** How many of a warp's groups of keys of cross-attention, from one on, are taken together; 0 behind the last. */
  DEVICE int groupsFrom(int first) const {
    const int all = (p.S + TOGETHER - 1) / TOGETHER;
    return first < all ? min(GROUPS, (all - first + WARPS - 1) / WARPS) : 0;
  }

  /** Asks for as much as was taken. */
  DEVICE void refill() {
    for (; owed > 0; owed--) ask();
  }
  /** Waits for the next `count` <= BITE slots, which are then taken. */
  DEVICE void wait(int count) {
    refill();
    waitSlots<DEPTH - BITE>();
    owed = count;
  }
  DEVICE uint4 take() {
    const uint4 piece = slots[tail * WARP];
    tail = tail + 1 == DEPTH ? 0 : tail + 1;
    return piece;
  }
};
