// Packs B for the matrix unit step by step, while the unit multiplies: few rows of A meet a step of B once, from the first cache level.
#pragma once
#include "gemm_slim.h"
#include "matrix_tiles.h"

/** 16 lines, whose terms lie side by side, turned: up to 16 terms from `x` on, a row of 16 lines each. */
template <class X> FAT5_INLINE void turn(const X *x, int64_t lineStep, int64_t lines, int64_t terms, float *rows) {
  vec v[W];
  if (lines >= TILE && terms >= TILE) {
#pragma GCC unroll 16
    for (int i = 0; i < TILE; i++) v[i] = load(x + i * lineStep);
  } else {
    for (int i = 0; i < TILE; i++) v[i] = i < lines ? masked(x + i * lineStep, __mmask16(firstOf(terms))) : vec{};
  }
  transpose(v);
#pragma GCC unroll 16
  for (int i = 0; i < TILE; i++) store(rows + i * TILE, v[i]);
}

/** Packs a panel of A whose lines become columns of the unit: packPanels<Side::B>, which turns all parts, in less time. */
template <int N, class X> void packTurned(const Lines<X> &from, uint16_t *out) {
  if constexpr (N == 1) {
    packPanels<Side::B, N>(from, out);
  } else {
    const SplitConstants constants;
    for (int64_t term = 0; term < from.terms; term += TILE_TERMS, out += 2 * N * TILE_ITEMS)
      for (int64_t line = 0; line < from.lines; line += TILE) {
        alignas(64) float turned[2 * TILE * TILE];
        for (int64_t i = 0; i < TILE_TERMS; i += TILE)
          turn(from.data + line * from.lineStep + term + i, from.lineStep, from.lines - line, from.terms - term - i, turned + i * TILE);
        for (int i = 0; i < TILE; i++)
          storeRow(out + line * TILE_TERMS, 2 * TILE_ITEMS, i,
                   pairsOf(load(turned + i * TILE), load(turned + (TILE + i) * TILE), constants));
      }
  }
}

/** Packs 32 columns of B at a time, whose terms lie side by side, as lines: always a step ahead of the unit. */
template <int N, class F> class StepPacker {
 public:
  StepPacker(const PanelSource<F> &first, const PanelSource<F> &next, uint16_t *room) : room_(room) {
    begin(first, next);
    for (int i = 0; i < CALLS; i++) (*this)();
  }

  /** What comes after the columns that are being packed: `next` is packed then, and memory asked for those of `behind`. */
  void follow(const PanelSource<F> &next, const PanelSource<F> &behind) {
    next_ = next;
    behind_ = behind;
  }

  /** Where the unit finds the next `steps` steps, if it goes on to call this packer. */
  Steps take(int64_t steps) {
    taken_ += steps;
    return {room_, taken_ - steps, PLACES};
  }

  /** A part of a step, of which there are as many as the unit makes calls. */
  void operator()() {
    if (block_ == from_.blocks()) begin(next_, behind_);
    if (from_.columns == 0) return;
    uint16_t *out = room_ + packed_ % PLACES * 2 * N * TILE_ITEMS;
    if (!whole_ || from_.termsOf(block_) - term_ < TILE_TERMS) packEdge(out);
    else if (row_ + ROWS <= LINES) packRows<ROWS>(out);
    else packRows<LINES % ROWS>(out);
    row_ += ROWS;
    if (row_ < LINES) return;
    row_ = 0;
    packed_++;
    term_ += TILE_TERMS;
    if (term_ < from_.termsOf(block_)) return;
    term_ = 0;
    block_++;
  }

 private:
  static constexpr int PLACES = 2, LINES = 2 * TILE, CALLS = callsOf<N, N>(1), ROWS = (LINES + CALLS - 1) / CALLS;

  void begin(const PanelSource<F> &from, const PanelSource<F> &next) {
    from_ = from;
    block_ = 0;
    whole_ = from.columns == LINES;
    ahead_ = next.columns ? reinterpret_cast<intptr_t>(next.b.data) - reinterpret_cast<intptr_t>(from.b.data) : 0;
  }

  void packEdge(uint16_t *out) const {
    if (row_ > 0) return;
    const Operand<F> b = from_.at(block_);
    const Lines<F> lines{b.data, b.columnStep, b.rowStep, from_.columns, from_.termsOf(block_)};
    for (int tile = 0; tile < 2; tile++) packTile<Side::A, N>(lines, tile * TILE, term_, out + tile * TILE_ITEMS);
  }

  template <int COUNT> FAT5_INLINE void packRows(uint16_t *out) const {
    const int64_t lineStep = from_.b.columnStep;
    const F *x = from_.at(block_).data + row_ * lineStep + term_;
    const auto packed = [&](const auto &pairs) {
#pragma GCC unroll 8
      for (int i = 0; i < COUNT; i++) storeRow(out, 2 * TILE_ITEMS, row_ + i, pairs(x + i * lineStep));
    };
    for (int i = 0; i < COUNT; i++)
      for (int64_t at = 0; at < TILE_TERMS * int64_t(sizeof(F)); at += 64)
        __builtin_prefetch(reinterpret_cast<const char *>(x + i * lineStep) + ahead_ + at, 0, 2);
    if constexpr (N == 1) {
      packed([](const F *line) { return termsOf<N>(line, TILE_TERMS); });
    } else {
      const SplitConstants constants;
      vec strange{};
      packed([&](const F *line) { return pairsOf(load(line), load(line + TILE), constants, strange); });
      if (__builtin_expect(infiniteOrNan(strange), 0))
        packed([](const F *line) { return pairsOf<N>(load(line), load(line + TILE)); });
    }
  }

  uint16_t *const room_;
  PanelSource<F> from_, next_{}, behind_{};
  bool whole_;
  int64_t ahead_, block_, term_ = 0, packed_ = 0, taken_ = 0;  // ahead_: bytes from these columns to the next
  int row_ = 0;
};
