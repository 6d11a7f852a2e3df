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
  // What is asked for next: `pieces` slots of a row of a matrix, or of some keys, of which this lane has `real`.
  const char *at;
  int stride, pieces = 0, real;
  // The rows after it: `rows` of them, of one matrix or of two in turn.
  const char *row, *other;
  int rows = 0, rowStride, slotsOfRow, realOfRow;
  bool paired;
  // The runs after them, or the keys.
  int token = 0, layer = 0, run = 0, task = ROWS * HEADS, group, half;
  int head = 0, tail = 0, owed = 0;

  DEVICE void begin(const Run &next) {
    if (next.place == CROSS_KEYS) {
      task = blockIdx.x;
      group = warp;
      half = 0;
      return;
    }
    const auto begins = [&](int place) {
      const T *matrix = place == HEAD ? p.head : p.parameters + i64(places[layer * PLACES + place]) * 64;
      return reinterpret_cast<const char *>(matrix) + next.offset + lane * 16;
    };
    paired = GATED && next.place == GATE_MATRIX;
    row = begins(next.place);
    if (paired) other = begins(UP_MATRIX);
    rows = paired ? 2 * next.rows : next.rows;
    rowStride = next.width * WARPS * int(sizeof(T));
    slotsOfRow = slotsFor(next.width);
    const int over = next.width - lane * PER;
    realOfRow = over > 0 ? slotsFor(over) : 0;
  }

  /** The next run of this warp: those of every layer, then the head's, then again for the next token. */
  DEVICE void nextRun() {
    if (layer < p.L) {
      if (run < shared.runs[warp].count) begin(shared.runs[warp].list[run++]);
      else {
        layer++;
        run = 0;
      }
    } else if (run == 0) {
      run = 1;
      begin(shared.runs[warp].head);
    } else {
      token++;
      layer = 0;
      run = 0;
    }
  }

  /** The next keys or values of cross-attention, if there are more. */
  DEVICE void nextKeys() {
    const int n = groupsFrom(group);
    if (n == 0) {
      task += BLOCKS;
      group = warp;
      return;
    }
    const int key = group * TOGETHER + lane / LANES, r = task / HEADS, h = task % HEADS;
    at = reinterpret_cast<const char *>((half ? p.crossValues : p.crossKeys) +
                                        (i64(layer * ROWS + r) * p.S + key) * INNER + h * HEAD_WIDTH) +
         lane % LANES * 16;
    stride = WARPS * TOGETHER * INNER * int(sizeof(T));
    pieces = n;
    real = key < p.S ? (p.S - 1 - key) / (WARPS * TOGETHER) + 1 : 0;
    if (half) group += n * WARPS;
    half ^= 1;
  }

  DEVICE void nextPieces() {
#pragma unroll 1
    while (pieces == 0 && token < p.steps) {
      if (rows > 0) {
        at = row;
        const char *next = row + rowStride;
        row = paired ? other : next;
        other = next;
        rows--;
        stride = SLOT * int(sizeof(T));
        pieces = slotsOfRow;
        real = realOfRow;
      } else if (task < ROWS * HEADS) nextKeys();
      else nextRun();
    }
  }

  DEVICE void ask(int count) {
#pragma unroll 1
    for (; count > 0; count--) {
      if (pieces == 0) nextPieces();
      if (pieces > 0) copyAhead(slots + head * WARP, at, real > 0);
      at += stride;
      real--;
      pieces -= pieces > 0;
      closeSlot();
      head = head + 1 == DEPTH ? 0 : head + 1;
    }
  }

 public:
  DEVICE Feed(const Problem &problem, const Shared &sharedMemory, const int *placesOfLayers, uint4 *memory)
      : p(problem), shared(sharedMemory), places(placesOfLayers),
        slots(memory + threadIdx.x / WARP * DEPTH * WARP + threadIdx.x % WARP), warp(threadIdx.x / WARP),
        lane(threadIdx.x % WARP) {
    owed = DEPTH;
  }

  /** The first row of a product that is this warp's; the next is WARPS further. */
  DEVICE int firstRow(int of) const { return shared.begin[of] + (warp + WARPS - shared.turn[of]) % WARPS; }

  /** How many of a warp's groups of keys of cross-attention, from one on, are taken together: GROUPS, 1, or 0 behind the last. */
  DEVICE int groupsFrom(int first) const {
    const int all = (p.S + TOGETHER - 1) / TOGETHER;
    return first + (GROUPS - 1) * WARPS < all ? GROUPS : first < all ? 1 : 0;
  }

  /** Asks for as much as was taken: best while others are waited for. */
  DEVICE void refill() {
    ask(owed);
    owed = 0;
  }
  /** Makes sure that the next `count` <= BITE slots have been asked for; then `wait` for them and take them. */
  DEVICE void reserve(int count) {
    if (owed + count > BUDGET) refill();
  }
  DEVICE void wait(int count) {
    owed += count;
    if (owed <= BITE) waitSlots<DEPTH - BITE>();
    else waitSlots<DEPTH - BUDGET>();
  }
  DEVICE uint4 take() {
    const uint4 piece = slots[tail * WARP];
    tail = tail + 1 == DEPTH ? 0 : tail + 1;
    return piece;
  }
};
