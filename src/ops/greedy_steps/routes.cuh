// What the products of greedy_steps read, where their inputs come from and where their results go.
#pragma once
#include "feed.cuh"

/** Letter boxes of a launch: what is sent in a layer, and every block's best token. */
constexpr i64 WORDS = ROWS * (6 * INNER + 3 * WIDTH + HIDDEN + 2 * BLOCKS);

/** Letter boxes: where what a product or a head's attention gives is sent to, as words before it. */
constexpr int QKV_BOX = 0, ATTENDED = QKV_BOX + ROWS * 3 * INNER, OUT_BOX = ATTENDED + ROWS * INNER,
              QUERY_BOX = OUT_BOX + ROWS * WIDTH, CROSS_ATTENDED = QUERY_BOX + ROWS * INNER,
              CROSS_OUT_BOX = CROSS_ATTENDED + ROWS * INNER, HIDDEN_BOX = CROSS_OUT_BOX + ROWS * WIDTH,
              DOWN_BOX = HIDDEN_BOX + ROWS * HIDDEN, BEST_BOX = DOWN_BOX + ROWS * WIDTH;
static_assert(BEST_BOX + 2 * ROWS * BLOCKS == WORDS, "as many words as there are boxes for");

DEVICE bool isNormalised(int work) { return work == QKV || work == CROSS_QUERY || work == UP || work == LOGITS; }

/** A product's inputs, where they come from, where its results go. */
DEVICE Route routeOf(int work) {
  switch (work) {
    case QKV: return {WIDTH, DOWN_BOX, QKV_BOX};
    case OUT: return {INNER, ATTENDED, OUT_BOX};
    case CROSS_QUERY: return {WIDTH, OUT_BOX, QUERY_BOX};
    case CROSS_OUT: return {INNER, CROSS_ATTENDED, CROSS_OUT_BOX};
    case UP: return {WIDTH, CROSS_OUT_BOX, HIDDEN_BOX};
    case DOWN: return {HIDDEN, HIDDEN_BOX, DOWN_BOX};
    default: return {WIDTH, DOWN_BOX, BEST_BOX};
  }
}

/** What a warp reads of a layer, in the order in which it is used: a few runs, since a block's rows lie together. */
DEVICE void listRuns(const Problem &p, const Shared &shared, const Feed &feed, Runs &runs) {
  runs.count = 0;
#pragma unroll 1
  for (int work = QKV; work <= LOGITS; work++) {
    if (work == CROSS) {
      if (blockIdx.x < ROWS * HEADS) runs.list[runs.count++] = {CROSS_KEYS, 0, 0, 0};
      continue;
    }
    constexpr int place[] = {Q, O, CROSS_Q, 0, CROSS_O, GATED ? GATE_MATRIX : UP_MATRIX, DOWN_MATRIX, HEAD};
    const int width = routeOf(work).inputs, end = shared.end[work];
    if (work == LOGITS) runs.head = {HEAD, 0, width, 0};
    for (int row = feed.firstRow(work); row < end;) {
      const int matrix = work == QKV ? row / INNER : 0, last = work == QKV ? min(end, (matrix + 1) * INNER) : end;
      const int rows = (last - row + WARPS - 1) / WARPS;
      const Run run{place[work] + matrix, rows, width, unsigned(row - matrix * INNER) * width * unsigned(sizeof(T))};
      if (work == LOGITS) runs.head = run;
      else runs.list[runs.count++] = run;
      row += rows * WARPS;
    }
  }
}
