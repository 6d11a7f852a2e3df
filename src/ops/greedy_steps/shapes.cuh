// Sizes of greedy_steps: constants of a launch, and what of it lies where.
// ROWS: R; WIDTH: M; HEADS: H; HEAD_WIDTH: D; HIDDEN: F; GATED, ACTIVATION; BLOCKS, and WARPS of one; DEPTH: slots of a warp's feed.
#pragma once
#include "kernel.cuh"

constexpr int THREADS = WARPS * WARP, INNER = HEADS * HEAD_WIDTH;
constexpr int PER = 16 / int(sizeof(T));  // elements of a lane's piece
constexpr int SLOT = WARP * PER;          // elements of a slot: a piece of every lane
constexpr int LANES = HEAD_WIDTH / PER, TOGETHER = WARP / LANES;  // of a head's row; keys of a slot
constexpr int BUDGET = 2 * DEPTH / 3;          // slots that may be taken before others are asked for
constexpr int BITE = BUDGET < 8 ? BUDGET : 8;      // slots that are waited for together
constexpr int GROUPS = BITE / 2;                     // slots of keys, and of values, that are waited for together
constexpr DEVICE int slotsFor(int n) { return (n + SLOT - 1) / SLOT; }
constexpr DEVICE int largest(int a, int b) { return a > b ? a : b; }
constexpr DEVICE int smallest(int a, int b) { return a < b ? a : b; }
/** Slots of a row that are taken together. */
constexpr int PART = smallest(slotsFor(WIDTH), smallest(BITE, 4));
/** Elements of a product's input up to whole slots: where it is normalised, and where it is not, for the longest. */
constexpr int NORMED = slotsFor(WIDTH) * SLOT, PLAIN = slotsFor(largest(INNER, HIDDEN)) * SLOT;

/** What a block has a share of, in the order in which a token's data is read. All but CROSS are matrix products. */
enum Work { QKV, OUT, CROSS_QUERY, CROSS, CROSS_OUT, UP, DOWN, LOGITS, WORKS };

/** Rows of `places`: where a layer's parameters are, in units of 64 elements. */
enum Place { SELF_NORM, Q, K, V, O, CROSS_NORM, CROSS_Q, CROSS_O, FEED_NORM, GATE_MATRIX, UP_MATRIX, DOWN_MATRIX, PLACES };

/** Rows of one matrix that a warp reads one after the other, each WARPS rows behind the last. */
struct Run {
  int place, rows, width;
  unsigned offset;  // of the first, in bytes
};
/** Instead of a place: the head; cross-attention's keys and values, which are no rows. */
enum { HEAD = -1, CROSS_KEYS = -2 };
/** A warp's runs of a layer, and of the head. */
struct Runs {
  Run list[12], head;
  int count;
};

/** What a launch is given. */
struct Problem {
  const T *parameters;
  const int *places;
  const T *embedding, *head, *norm;
  const float *bias;
  const T *crossKeys, *crossValues;
  const int *crossSegments, *eos;
  int *token, *ended, *position, *history;
  T *keys, *values;
  int L, V, P, S, E, C, steps, pad;
  float alpha, scale, eps;

  DEVICE int outputs(int work) const {
    switch (work) {
      case QKV: return 3 * INNER;
      case CROSS_QUERY: return INNER;
      case UP: return HIDDEN;
      case LOGITS: return V;
      case CROSS: return 0;
      default: return WIDTH;
    }
  }
};

/** A product's inputs, and the letter boxes that they come from and that its results go to. */
struct Route {
  int inputs, from, to;
};

/** Shared memory of a block; the plan reckons with its size. */
struct Shared {
  alignas(16) T fresh[3 * HEAD_WIDTH];  // the new token's query, key and value
  float squares[ROWS][WARPS];
  float partial[WARPS][HEAD_WIDTH + 2];
  unsigned long long best[ROWS][WARPS];
  int token[ROWS], ended[ROWS], position[ROWS];
  Route routes[WORKS];
  Runs runs[WARPS];
  int begin[WORKS], end[WORKS], turn[WORKS];  // this block's rows of a product; the warp that has the first
};
