// The inner parts of gemm.cpp: the register tile, and packing into the order in which the tile reads.
//
// A tile is up to MR rows by NR columns of C, held in registers while a block of at most KC terms is added to it. Each
// term takes NR packed values of B and one broadcast value of A per row.
#pragma once
#include <algorithm>
#include <utility>
#include "ahead.h"
#include "gemm_slim.h"
#include "transpose.h"

#if defined(__AVX512F__) || defined(__aarch64__)
constexpr int MR = 12;  // of 32 registers 24 hold sums
#else
constexpr int MR = 6;  // of 16 registers 12 hold sums
#endif
constexpr int NV = 2, NR = NV * W;
constexpr int KC = 256;       // a block of B's panel, NR * KC floats, stays in the first cache level
constexpr int MC = 144;       // a block of A, MC * KC floats, stays in the second
constexpr int AHEAD = 512;    // floats of B between what a tile uses and what it asks the second cache level for
constexpr int PACK_ROWS = 8;  // rows that a packing loop follows at once: few enough to share a set of the first cache level

/** What becomes of `out` when a block's sum is added. */
FAT5_INLINE vec added(vec sum, const float *out, float alpha, float beta) {
  return beta == 0 ? alpha * sum : alpha * sum + beta * load(out);
}

/** How A is packed: in rows of KC values (as it lies in memory when its rows are contiguous), or MR values per term. */
enum class Packed { rows, terms };

/** C[ROWS,NR] = alpha * (A B) + beta * C over `terms` terms. C's rows lie `stride` apart; beta 0 does not read C. */
template <int ROWS, Packed A, bool FETCH>
void tile(const float *a, const float *b, int64_t terms, float *c, int64_t stride, float alpha, float beta, Fetch fetch) {
  const int64_t fetchStep = FETCH ? (fetch.bytes + terms - 1) / terms : 0;
  vec sums[ROWS][NV];
#pragma GCC unroll 16
  for (int i = 0; i < ROWS; i++) {
#pragma GCC unroll 4
    for (int j = 0; j < NV; j++) sums[i][j] = vec{};
    __builtin_prefetch(c + i * stride, 1);
    __builtin_prefetch(c + i * stride + NR - 1, 1);
  }
#pragma GCC unroll 4
  for (int64_t k = 0; k < terms; k++) {
    vec columns[NV];
    if (FETCH) __builtin_prefetch(fetch.at + k * fetchStep, 0, 2);
#pragma GCC unroll 4
    for (int j = 0; j < NV; j++) {
      columns[j] = load(b + k * NR + j * W);
      if (j * W % 16 == 0) __builtin_prefetch(b + k * NR + j * W + AHEAD);
    }
#pragma GCC unroll 16
    for (int i = 0; i < ROWS; i++) {
      const float x = A == Packed::rows ? a[i * KC + k] : a[k * MR + i];
#pragma GCC unroll 4
      for (int j = 0; j < NV; j++) sums[i][j] += x * columns[j];
    }
  }
#pragma GCC unroll 16
  for (int i = 0; i < ROWS; i++)
#pragma GCC unroll 4
    for (int j = 0; j < NV; j++) {
      float *out = c + i * stride + j * W;
      store(out, added(sums[i][j], out, alpha, beta));
    }
}

typedef void (*Tile)(const float *, const float *, int64_t, float *, int64_t, float, float, Fetch);

template <Packed A, bool FETCH, int... I> Tile tileOf(int rows, std::integer_sequence<int, I...>) {
  static constexpr Tile tiles[] = {tile<I + 1, A, FETCH>...};
  return tiles[rows - 1];
}

/** The tile of 1 to MR rows. */
inline Tile tileOf(int rows, Packed a, bool fetches) {
  const auto heights = std::make_integer_sequence<int, MR>();
  if (a == Packed::terms) return fetches ? tileOf<Packed::terms, true>(rows, heights) : tileOf<Packed::terms, false>(rows, heights);
  return fetches ? tileOf<Packed::rows, true>(rows, heights) : tileOf<Packed::rows, false>(rows, heights);
}

/** Up to W terms from k on of W columns from `first` on, whose terms lie side by side: a term each; zeros where there are none. */
template <class E> FAT5_INLINE void turned(Operand<E> b, int64_t first, int64_t last, int64_t k, int64_t terms, vec (&v)[W]) {
  const E *in = b.data + first * b.columnStep + k;
  if (terms - k >= W && last - first >= W) {
#pragma GCC unroll 16
    for (int l = 0; l < W; l++) {
      v[l] = load(in + l * b.columnStep);
      if (k % 16 == 0) __builtin_prefetch(in + (W + l) * b.columnStep);  // the columns that follow
    }
  } else {
    const int64_t left = std::min<int64_t>(W, terms - k);
    for (int l = 0; l < W; l++) v[l] = first + l < last ? load(in + l * b.columnStep, left) : vec{};
  }
  transpose(v);
}

/** The same as rows of a panel. */
template <class E>
FAT5_INLINE void packSquare(Operand<E> b, int64_t first, int64_t last, int64_t k, int64_t terms, float *out) {
  vec v[W];
  turned(b, first, last, k, terms, v);
  if (terms - k >= W) {
#pragma GCC unroll 16
    for (int l = 0; l < W; l++) store(out + l * NR, v[l]);
  } else {
    for (int l = 0; l < terms - k; l++) store(out + l * NR, v[l]);
  }
}

/** Columns [first, last) of rows [0, terms) of B as panels [terms][NR] that lie `step` floats apart; zeros behind last. */
template <class E>
void packColumns(Operand<E> b, int64_t first, int64_t last, int64_t terms, float *out, int64_t step) {
  if (b.columnStep == 1) {
    for (int64_t k0 = 0; k0 < terms; k0 += PACK_ROWS)
      for (int64_t n = first, p = 0; n < last; n += NR, p++)
        for (int64_t k = k0; k < k0 + PACK_ROWS && k < terms; k++)
          for (int j = 0; j < NV; j++) {
            const int64_t from = n + j * W, left = last - from;
            const E *in = b.data + k * b.rowStep + from;
            store(out + p * step + k * NR + j * W, left >= W ? load(in) : load(in, left > 0 ? left : 0));
            if (j * W % 16 == 0) __builtin_prefetch(in + PACK_ROWS * b.rowStep);
          }
    return;
  }
  for (int64_t n = first; n < last; n += NR, out += step)
    for (int j = 0; j < NV; j++)
      for (int64_t k = 0; k < terms; k += W)
        packSquare(b, n + j * W, last, k, terms, out + k * NR + j * W);
}

/** Rows of A cut into panels of at most MR rows, as even as can be: rows [start(p), start(p + 1)). */
struct Panels {
  int64_t rows, count;
  explicit Panels(int64_t rows) : rows(rows), count((rows + MR - 1) / MR) {}
  int64_t start(int64_t p) const { return p * rows / count; }
  int height(int64_t p) const { return int(start(p + 1) - start(p)); }
};

/** Where panel p of a packed block of A begins; whole vectors pass the end of a panel's last term. */
inline int64_t panelOffset(const Panels &panels, int64_t p, Packed order) {
  return order == Packed::rows ? panels.start(p) * KC : p * (MR * KC + W);
}

/** In which order A is packed: as it lies in memory. */
template <class E> Packed orderOf(Operand<E> a) { return a.columnStep == 1 ? Packed::rows : Packed::terms; }

/** A block of A as its tiles read it; a.data is its first element, `height` the number of rows of A from there on. */
template <class E> void packRows(Operand<E> a, const Panels &panels, int64_t height, int64_t terms, float *out) {
  if (orderOf(a) == Packed::rows) {
    for (int64_t i = 0; i < panels.rows; i++)
      forVectors(0, terms, [&](int64_t k, auto part) {
        store(out + i * KC + k, load(a.data + i * a.rowStep + k, part), part);
      });
    return;
  }
  for (int64_t k0 = 0; k0 < terms; k0 += PACK_ROWS)
    for (int64_t p = 0; p < panels.count; p++) {
      const int64_t start = panels.start(p), width = height - start;  // behind the panel other rows of A, which no tile uses
      const E *in = a.data + k0 * a.columnStep + start;
      float *to = out + panelOffset(panels, p, Packed::terms) + k0 * MR;
      if (width >= MR + W && terms - k0 >= PACK_ROWS) {
#pragma GCC unroll 4
        for (int k = 0; k < PACK_ROWS; k++)
          for (int i = 0; i < MR; i += W) store(to + k * MR + i, load(in + k * a.columnStep + i));
      } else {
        for (int64_t k = 0; k < PACK_ROWS && k < terms - k0; k++)
          for (int i = 0; i < MR; i += W)
            store(to + k * MR + i, load(in + k * a.columnStep + i, std::max<int64_t>(0, std::min<int64_t>(W, width - i))));
      }
    }
}

/** A tile that reaches over C's last column: computed beside it, then the part inside is added. */
inline void edgeTile(Tile tile, const float *a, const float *b, int64_t terms, float *c, int64_t stride, int rows,
                     int64_t columns, float alpha, float beta) {
  alignas(64) float part[MR * NR];
  tile(a, b, terms, part, NR, alpha, 0, Fetch{});
  for (int i = 0; i < rows; i++)
    for (int j = 0; j < columns; j++) {
      float &out = c[i * stride + j];
      out = part[i * NR + j] + (beta == 0 ? 0 : beta * out);
    }
}

/**
 * ROWS packed rows of A times up to W columns of B, turned in registers instead of packed: C = alpha * (A B) + beta * C over
 * `terms` terms, with the sums of `tile`.
 */
template <int ROWS, class F>
void turnedTile(const float *a, Operand<F> b, int64_t columns, int64_t terms, float *c, int64_t stride, float alpha, float beta,
                Fetch fetch) {
  const int64_t fetchStep = fetch.bytes * W / terms;
  vec sums[ROWS];
  for (vec &sum : sums) sum = vec{};
  for (int64_t k = 0; k < terms; k += W) {
    for (int64_t i = 0; i < fetchStep; i += 64) __builtin_prefetch(fetch.at + k / W * fetchStep + i, 0, 2);
    vec v[W];
    turned(b, 0, columns, k, terms, v);
    if (terms - k >= W) {
#pragma GCC unroll 16
      for (int l = 0; l < W; l++)
#pragma GCC unroll 8
        for (int i = 0; i < ROWS; i++) sums[i] += a[i * KC + k + l] * v[l];
    } else {
      for (int l = 0; l < terms - k; l++)
        for (int i = 0; i < ROWS; i++) sums[i] += a[i * KC + k + l] * v[l];
    }
  }
  for (int i = 0; i < ROWS; i++) {
    float *out = c + i * stride;
    if (columns >= W) {
      store(out, added(sums[i], out, alpha, beta));
    } else {
      const vec part = alpha * sums[i];
      for (int j = 0; j < columns; j++) out[j] = part[j] + (beta == 0 ? 0 : beta * out[j]);
    }
  }
}

template <class F> using TurnedTile = void (*)(const float *, Operand<F>, int64_t, int64_t, float *, int64_t, float, float, Fetch);

template <class F, int... I> TurnedTile<F> turnedTileOf(int64_t rows, std::integer_sequence<int, I...>) {
  static constexpr TurnedTile<F> tiles[] = {turnedTile<I + 1, F>...};
  return tiles[rows - 1];
}

/** What gemm.cpp builds on: floats in vector registers. */
template <class E> struct VectorEngine {
  typedef float Item;
  struct Session {};
  static constexpr int NR = ::NR, STEP = 16, KC = ::KC, MC = ::MC, LEAST_ROWS = ::MC;
  static constexpr int MR = ::MR;
  static constexpr int TURNED_ROWS = 8;  // that meet columns which are not packed
  static constexpr int64_t SLIM_BYTES = 5 << 18, SLIM_BANDS = 4;
  static constexpr int64_t bandItems(int64_t rows) { return (rows + MR - 1) / MR * (MR * KC + W); }
  static constexpr int64_t BLOCK_ITEMS = bandItems(MC);

  static constexpr int64_t panelItems(int64_t terms) { return NR * terms; }

  /** Columns of B that are packed at once: on few threads they leave the second cache level room for A and C. */
  static int64_t chunkColumns(int64_t threads) { return std::min<int64_t>(4096, 32 * NR * ((threads + 1) / 2)); }

  template <class F> static void packColumns(Operand<F> b, int64_t first, int64_t last, int64_t terms, float *out) {
    ::packColumns(b, first, last, terms, out, NR * terms);
  }

  /** The next columns: packed at the end. Those behind them are asked for all the time. */
  template <class F> class Next {
   public:
    Next(const PanelSource<F> &from, float *out, Fetch behind, int64_t rows)
        : from_(from), out_(out), behind_(behind), parts_(from.blocks() * (Panels(rows).count + PACKING)) {}
    Fetch part() { return done_ < parts_ ? behind_.part(done_++, parts_) : Fetch{}; }
    void finish() {
      for (int64_t block = 0; block < from_.blocks(); block++) {
        for (int i = 0; i < PACKING; i++) part().now();
        packColumns(from_.at(block), 0, from_.columns, from_.termsOf(block), out_ + block * from_.blockItems);
      }
    }

   private:
    static constexpr int PACKING = 1;  // takes as long as the product of so many panels of rows
    const PanelSource<F> from_;
    float *const out_;
    const Fetch behind_;
    const int64_t parts_;
    int64_t done_ = 0;
  };

  /** Packed rows, TURNED_ROWS at most, times columns of B whose terms lie side by side. */
  template <class F> class Turned {
   public:
    Turned(const PanelSource<F> &, const PanelSource<F> &, float *) {}
    static void packRows(Operand<E> a, int64_t rows, int64_t height, int64_t terms, float *out) {
      VectorEngine::packRows(a, rows, height, terms, out);
    }
    void follow(const PanelSource<F> &next, const PanelSource<F> &) { next_ = next.memory(); }

    void multiply(const float *a, int64_t rows, const PanelSource<F> &from, int64_t block, float *c, int64_t stride, float alpha,
                  float beta) {
      const TurnedTile<F> tile = turnedTileOf<F>(rows, std::make_integer_sequence<int, TURNED_ROWS>());
      const Operand<F> b = from.at(block);
      const Fetch fetch = next_.part(block, from.blocks());
      for (int64_t n = 0; n < from.columns; n += W)
        tile(a, {b.data + n * b.columnStep, b.rowStep, b.columnStep}, std::min<int64_t>(W, from.columns - n), from.termsOf(block), c + n,
             stride, alpha, beta, fetch.part(n / W, (from.columns + W - 1) / W));
    }

   private:
    Fetch next_;
  };

  /** Packs `rows` rows of A, of `height` that there are from the first on. */
  static void packRows(Operand<E> a, int64_t rows, int64_t height, int64_t terms, float *out) {
    ::packRows(a, Panels(rows), height, terms, out);
  }

  /** A packed block of `rows` rows of A. */
  class Rows {
   public:
    Rows(Operand<E> a, int64_t rows, int64_t terms, const float *items)
        : items_(items), split_(rows), terms_(terms), order_(orderOf(a)) {}
    int64_t panels() const { return split_.count; }
    int64_t start(int64_t panel) const { return split_.start(panel); }

    /** Panel `panel` times the first `columns` columns of a panel of B: C = alpha A B + beta C. */
    template <class Meanwhile>
    void multiply(int64_t panel, const float *b, float *c, int64_t stride, int64_t columns, float alpha,
                  float beta, Meanwhile &&meanwhile) const {
      const int rows = split_.height(panel);
      const Fetch fetch = meanwhile.part();
      const Tile tile = tileOf(rows, order_, fetch.bytes > 0);
      const float *a = items_ + panelOffset(split_, panel, order_);
      if (columns >= NR) tile(a, b, terms_, c, stride, alpha, beta, fetch);
      else edgeTile(tile, a, b, terms_, c, stride, rows, columns, alpha, beta);
    }

   private:
    const float *items_;
    Panels split_;
    int64_t terms_;
    Packed order_;
  };
};
