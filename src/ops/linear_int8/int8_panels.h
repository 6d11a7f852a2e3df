// Many rows of linear_int8 without a matrix unit: panels of a weight, packed by the call, hold the same few terms of some outputs
// side by side, so that a register of sums is a register of outputs and nothing has to be summed over lanes.
#pragma once
#include <algorithm>
#include "int8_rows.h"
#include "transpose.h"

constexpr int64_t LEAST_PANEL_ROWS = 12;  // fewer do not pay for packing
constexpr int PANEL_VECTORS = 2, PANEL = PANEL_VECTORS * W;
#if defined(__AVX512F__) || defined(__aarch64__)
constexpr int PANEL_ROWS = 12;  // of 32 registers 24 hold sums
#else
constexpr int PANEL_ROWS = 6;  // of 16 registers 12 hold sums
#endif
constexpr int64_t BLOCK_TERMS = 4 * W;  // packed at once

/** Terms of I, rounded up to what is packed at once. */
inline int64_t panelTerms(int64_t I) { return (I + BLOCK_TERMS - 1) / BLOCK_TERMS * BLOCK_TERMS; }

/** Packs `count` rows of a weight as [steps of D::TERMS terms][PANEL outputs][D::TERMS]; zeros behind the last row and term. */
template <class D> void packPanel(const int8_t *weight, int64_t I, int64_t count, int8_t *panel) {
  for (int c = 0; c < PANEL_VECTORS; c++)
    for (int64_t i = 0; i < I; i += BLOCK_TERMS) {
      const int64_t terms = std::min(BLOCK_TERMS, I - i);
      vec v[W];
#pragma GCC unroll 16
      for (int r = 0; r < W; r++) {
        v[r] = vec{};
        if (i % 64 == 0) __builtin_prefetch(weight + (PANEL + c * W + r) * I + i, 0, 2);  // the next panel's
        if (c * W + r < count) memcpy(&v[r], weight + (c * W + r) * I + i, terms == BLOCK_TERMS ? BLOCK_TERMS : terms);
      }
      transpose(v);
#pragma GCC unroll 16
      for (int g = 0; g < W; g++) D::storeTerms(v[g], panel + (i + 4 * g) * PANEL + c * D::TERMS * W);
    }
}

/** Rows [n, n + ROWS) times a panel. */
template <class D, int ROWS, class Out>
void panelTile(const QuantisedRows<typename D::Item> &rows, int64_t n, const int8_t *panel, const Out &out) {
  ivec sums[ROWS][PANEL_VECTORS];
#pragma GCC unroll 16
  for (int r = 0; r < ROWS; r++)
#pragma GCC unroll 4
    for (int c = 0; c < PANEL_VECTORS; c++) sums[r][c] = ivec{};
  const auto *x = rows.x + n * rows.stride;
  for (int64_t i = 0; i < rows.I; i += D::TERMS) {
    typename D::Weights columns[PANEL_VECTORS];
#pragma GCC unroll 4
    for (int c = 0; c < PANEL_VECTORS; c++) columns[c] = D::loadTerms(panel + i * PANEL + c * D::TERMS * W);
#pragma GCC unroll 16
    for (int r = 0; r < ROWS; r++) {
      int32_t terms;
      memcpy(&terms, x + r * rows.stride + i, sizeof terms);
      const ivec all = terms - ivec{};
#pragma GCC unroll 4
      for (int c = 0; c < PANEL_VECTORS; c++) sums[r][c] = D::multiplyAdd(sums[r][c], columns[c], (typename D::Weights)all);
    }
  }
#pragma GCC unroll 16
  for (int r = 0; r < ROWS; r++)
#pragma GCC unroll 4
    for (int c = 0; c < PANEL_VECTORS; c++) out(n + r, c, sums[r][c]);
}

template <class D, int ROWS, class Out>
void panelTileOf(int64_t height, const QuantisedRows<typename D::Item> &rows, int64_t n, const int8_t *panel, const Out &out) {
  if (height == ROWS) return panelTile<D, ROWS>(rows, n, panel, out);
  if constexpr (ROWS > 1) panelTileOf<D, ROWS - 1>(height, rows, n, panel, out);
}

/** All rows times at most PANEL rows of a weight, in tiles as even as can be. `room` holds PANEL * panelTerms(I). */
template <class D>
void panelBlock(const QuantisedRows<typename D::Item> &rows, const int8_t *weight, const float *scales, T *y, int64_t O,
                int64_t count, int8_t *room) {
  packPanel<D>(weight, rows.I, count, room);
  vec scale[PANEL_VECTORS];
  for (int c = 0; c < PANEL_VECTORS; c++) {
    const int64_t left = std::max<int64_t>(0, count - c * W);
    scale[c] = left >= W ? load(scales + c * W) : load(scales + c * W, left);
  }
  const auto out = [&](int64_t n, int c, ivec sums) __attribute__((always_inline)) {
    const vec result = __builtin_convertvector(sums - D::BIAS * rows.sums[n], vec) * rows.steps[n] * scale[c];
    const int64_t left = count - c * W;
    if (left >= W) store(y + n * O + c * W, result);
    else if (left > 0) store(y + n * O + c * W, result, left);
  };
  const int64_t tiles = (rows.N + PANEL_ROWS - 1) / PANEL_ROWS;
  for (int64_t t = 0; t < tiles; t++) {
    const int64_t n = t * rows.N / tiles, height = (t + 1) * rows.N / tiles - n;
    panelTileOf<D, PANEL_ROWS>(height, rows, n, room, out);
  }
}
