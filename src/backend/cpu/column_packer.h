// Packs a panel of B for the matrix unit piece by piece, while the unit multiplies by the one before.
#pragma once
#include "gemm_slim.h"
#include "matrix_tiles.h"
#include "step_packer.h"

/** Packs a panel of two tiles for every 32 terms, unit by unit. */
template <int N, class F> class PanelPacker {
 public:
  PanelPacker(const PanelSource<F> &from, uint16_t *out) : from_(from), out_(out), tiles_(from.columns > TILE ? 2 : 1) {}

  int64_t units() const {
    if (from_.b.rowStep != 1) return from_.blocks();
    int64_t steps = 0;
    for (int64_t block = 0; block < from_.blocks(); block++) steps += stepsOf(block);
    return steps * tiles_ * PER_TILE;
  }

  /** The next unit of the work, of which there are `units`. */
  void pack() {
    const Operand<F> b = from_.at(block_);
    const int64_t terms = from_.termsOf(block_);
    const Lines<F> lines{b.data, b.columnStep, b.rowStep, from_.columns, terms};
    uint16_t *panel = out_ + block_ * from_.blockItems;
    if (b.rowStep != 1) {
      packPanels<Side::B, N, F>(lines, panel);
      block_++;
      return;
    }
    packPart(lines, panel + (step_ * 2 * N + tile_) * TILE_ITEMS);
    if (++part_ < PER_TILE) return;
    part_ = 0;
    if (++tile_ < tiles_) return;
    tile_ = 0;
    if (++step_ < stepsOf(block_)) return;
    step_ = 0;
    block_++;
  }

 private:
  static constexpr int ROWS = 4, PER_TILE = std::is_same<F, bf16>::value ? 1 : 2 + TILE / ROWS;
  static int64_t stepsFor(int64_t terms) { return (terms + TILE_TERMS - 1) / TILE_TERMS; }
  int64_t stepsOf(int64_t block) const { return stepsFor(from_.termsOf(block)); }

  void packPart(const Lines<F> &lines, uint16_t *out) {
    if constexpr (PER_TILE == 1) {
      packTile<Side::B, N>(lines, tile_ * TILE, step_ * TILE_TERMS, out);
    } else if (part_ < 2) {
      const int64_t line = tile_ * TILE, term = step_ * TILE_TERMS + part_ * TILE;
      turn(lines.data + line * lines.lineStep + term, lines.lineStep, lines.lines - line, lines.terms - term,
           turned_ + part_ * TILE * TILE);
    } else {
      const SplitConstants constants;
      const float *rows = turned_ + (part_ - 2) * ROWS * TILE;
      out += (part_ - 2) * ROWS * TILE_TERMS;
#pragma GCC unroll 4
      for (int i = 0; i < ROWS; i++)
        storeRow(out, 2 * TILE_ITEMS, i, pairsOf(load(rows + i * TILE), load(rows + (TILE + i) * TILE), constants));
    }
  }

  const PanelSource<F> from_;
  uint16_t *const out_;
  const int64_t tiles_;
  int64_t block_ = 0, step_ = 0, tile_ = 0;
  int part_ = 0;
  alignas(64) float turned_[2 * TILE * TILE];
};
