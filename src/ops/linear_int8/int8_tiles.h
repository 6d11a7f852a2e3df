// Rows in int8 times two panels of a weight on the matrix unit: 16 rows of x and 64 terms are a tile as they lie in memory, and
// so are 64 terms of a panel.
#pragma once
#include "int8_dots.h"
#include "matrix_tiles.h"

namespace {

constexpr int64_t TERMS = 64, TILE_BYTES = TILE * TERMS;

/** For terms in multiples of TERMS. */
struct TileDots {
  typedef int8_t Item;
  using Unit = MatrixUnit;
  static constexpr int64_t SIDE = 2 * TILE;

  template <class Out>
  static void multiply(const Rows<Item> &rows, int64_t begin, int64_t end, const int8_t *first, const int8_t *second,
                       const Out &out) {
    alignas(64) int32_t sums[SIDE * BOTH];
    for (int64_t n = begin; n < end; n += SIDE) {
      const int8_t *x = rows.q + n * rows.stride;
      if (end - n <= TILE) tiles<1>(x, rows, first, second, sums);
      else tiles<2>(x, rows, first, second, sums);
      out(n, std::min(SIDE, end - n), sums);
    }
  }

 private:
  /** Sums of DOWN times 16 rows. */
  template <int DOWN>
  static void tiles(const int8_t *x, const Rows<Item> &rows, const int8_t *first, const int8_t *second,
                    int32_t *sums) {
    finishStores();
    _tile_zero(0);
    _tile_zero(1);
    _tile_zero(2);
    _tile_zero(3);
    for (int64_t i = 0; i < rows.I; i += TERMS, x += TERMS, first += TILE_BYTES, second += TILE_BYTES) {
#pragma GCC unroll 16
      for (int l = 0; l < TILE_BYTES; l += 64) {
        __builtin_prefetch(first + PREFETCH + l);
        __builtin_prefetch(second + PREFETCH + l);
      }
      _tile_loadd(4, x, rows.stride);
      _tile_loadd(6, first, TERMS);
      _tile_loadd(7, second, TERMS);
      _tile_dpbssd(0, 4, 6);
      _tile_dpbssd(1, 4, 7);
      if constexpr (DOWN == 2) {
        _tile_loadd(5, x + TILE * rows.stride, rows.stride);
        _tile_dpbssd(2, 5, 6);
        _tile_dpbssd(3, 5, 7);
      }
    }
    _tile_stored(0, sums, 4 * BOTH);
    _tile_stored(1, sums + TILE, 4 * BOTH);
    if constexpr (DOWN == 2) {
      _tile_stored(2, sums + TILE * BOTH, 4 * BOTH);
      _tile_stored(3, sums + TILE * BOTH + TILE, 4 * BOTH);
    }
    finishStores();  // and what the tiles stored is read after this
  }
};

}  // namespace
