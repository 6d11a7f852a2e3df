// The inner parts of gemm.cpp on the matrix unit: panels of 32 rows of A and 32 columns of B, two tiles each.
#pragma once
#include <algorithm>
#include "column_packer.h"
#include "matrix_tiles.h"
#include "step_packer.h"

/** What gemm.cpp builds on: panels of 32 rows of A and 32 columns of B, tiles of them beside each other. */
template <class E> struct MatrixEngine {
  static constexpr int PARTS = std::is_same<E, float>::value ? 3 : 1;
  typedef uint16_t Item;
  typedef MatrixUnit Session;
  static constexpr int MR = 2 * TILE, NR = 2 * TILE, STEP = TILE_TERMS;
  static constexpr int KC = PARTS == 3 ? 512 : 1024;  // some panels of either side stay in the second cache level
  static constexpr int TURNED_ROWS = MR;
  static constexpr int64_t SLIM_BYTES = 1 << 20, SLIM_BANDS = 2;
  static constexpr int MC = 128, LEAST_ROWS = 64;

  static constexpr int64_t panelItems(int64_t terms) { return ::panelItems<PARTS>(terms); }
  static int64_t chunkColumns(int64_t) { return 1024; }
  static constexpr int64_t bandItems(int64_t rows) { return (rows + MR - 1) / MR * ::panelItems<PARTS>(KC); }
  static constexpr int64_t BLOCK_ITEMS = bandItems(MC);

  /** Columns [first, last) of rows [0, terms) of B as panels one behind the other. */
  template <class F> static void packColumns(Operand<F> b, int64_t first, int64_t last, int64_t terms, uint16_t *out) {
    packPanels<Side::B, PARTS, F>({b.data + first * b.columnStep, b.columnStep, b.rowStep, last - first, terms}, out);
  }

  /** The next columns: packed on the way; then those behind them are asked for. */
  template <class F> class Next {
   public:
    Next(const PanelSource<F> &from, uint16_t *out, Fetch behind, int64_t rows)
        : packer_(from, out), behind_(behind), units_(packer_.units()) {
      share_ = units_ ? (behind.bytes + units_ - 1) / units_ : 0;
      for (int64_t block = 0; block < from.blocks(); block++)
        calls_ += (rows + MR - 1) / MR * callsOf<PARTS, PARTS>((from.termsOf(block) + TILE_TERMS - 1) / TILE_TERMS);
    }
    void operator()() {
      for (due_ += units_; due_ >= calls_ && done_ < units_; due_ -= calls_) pack();
    }
    void finish() {
      while (done_ < units_) pack();
    }

   private:
    void pack() {
      const int64_t end = std::min(behind_.bytes, ++done_ * share_);
      for (; fetched_ < end; fetched_ += 64) __builtin_prefetch(behind_.at + fetched_, 0, 2);
      packer_.pack();
    }

    PanelPacker<PARTS, F> packer_;
    const Fetch behind_;
    const int64_t units_;
    int64_t share_ = 0, fetched_ = 0;  // bytes: of a unit, so far
    int64_t calls_ = 0, due_ = 0, done_ = 0;
  };

  /**
   * One panel of A times columns of B whose terms lie side by side, which become rows: C's transpose. As they lie they are parts of
   * tiles, so that only the results and A are turned, and what is packed of them never leaves the first cache level.
   */
  template <class F> class Turned {
   public:
    Turned(const PanelSource<F> &first, const PanelSource<F> &next, uint16_t *room) : packer_(first, next, room) {}
    static void packRows(Operand<E> a, int64_t rows, int64_t, int64_t terms, uint16_t *out) {
      packTurned<PARTS, E>({a.data, a.rowStep, a.columnStep, rows, terms}, out);
    }
    void follow(const PanelSource<F> &next, const PanelSource<F> &behind) { packer_.follow(next, behind); }

    /** The columns of `from`, in order. */
    void multiply(const uint16_t *a, int64_t rows, const PanelSource<F> &from, int64_t block, float *c, int64_t stride, float alpha,
                  float beta) {
      alignas(64) float sums[NR * MR];
      const int64_t steps = (from.termsOf(block) + TILE_TERMS - 1) / TILE_TERMS;
      multiplyPanels<PARTS, PARTS, ::Turned::YES>(packer_.take(steps), a, steps, sums, MR, from.columns, rows, Into::REPLACE, packer_);
      forColumns(sums, MR, from.columns, rows, [&](int64_t row, int64_t column, vec v, int64_t count) {
        float *out = c + row * stride + column;
        const vec sum = alpha * v;
        if (count == W) store(out, beta == 0 ? sum : sum + beta * load(out));
        else store(out, beta == 0 ? sum : sum + beta * load(out, count), count);
      });
    }

   private:
    StepPacker<PARTS, F> packer_;
  };

  static void packRows(Operand<E> a, int64_t rows, int64_t, int64_t terms, uint16_t *out) {
    packPanels<Side::A, PARTS, E>({a.data, a.rowStep, a.columnStep, rows, terms}, out);
  }

  /** A packed block of `rows` rows of A. */
  class Rows {
   public:
    Rows(Operand<E>, int64_t rows, int64_t terms, const uint16_t *items) : items_(items), rows_(rows), terms_(terms) {}
    int64_t panels() const { return (rows_ + MR - 1) / MR; }
    int64_t start(int64_t panel) const { return panel * MR; }

    /** Panel `panel` times the first `columns` columns of a panel of B: C = alpha A B + beta C. */
    template <class Meanwhile>
    void multiply(int64_t panel, const uint16_t *b, float *c, int64_t stride, int64_t columns, float alpha,
                  float beta, Meanwhile &&meanwhile) const {
      const uint16_t *a = items_ + panel * panelItems(terms_);
      const int64_t rows = std::min<int64_t>(MR, rows_ - panel * MR), steps = (terms_ + TILE_TERMS - 1) / TILE_TERMS;
      columns = std::min<int64_t>(NR, columns);
      for (int64_t i = 0; i < rows; i++) {
        __builtin_prefetch(c + i * stride, 1);
        __builtin_prefetch(c + i * stride + columns - 1, 1);
      }
      alignas(64) float sums[MR * NR];
      multiplyPanels<PARTS, PARTS>({a}, b, steps, sums, NR, rows, columns, Into::REPLACE, meanwhile);
      for (int64_t i = 0; i < rows; i++)
        forVectors(0, columns, [&](int64_t n, auto part) {
          const vec sum = alpha * load(sums + i * NR + n);
          float *out = c + i * stride + n;
          store(out, beta == 0 ? sum : sum + beta * load(out, part), part);
        });
    }

   private:
    const uint16_t *items_;
    int64_t rows_, terms_;
  };
};
