// Many rows of linear_int8 on the matrix unit: y^T = weight x^T, so that 16 rows of a weight are a tile as they lie in memory
// and only x is packed, 16 rows and 64 terms to a tile.
#pragma once
#include <algorithm>
#include "int8_rows.h"
#include "matrix_tiles.h"

constexpr int64_t LEAST_TILED_ROWS = 16;
constexpr int TERMS = 64, TILE_BYTES = TILE * TERMS;
constexpr int64_t SECOND_LEVEL_BYTES = 1 << 21;
constexpr int64_t SERIAL_ITEMS = 1 << 15;  // fewer are packed before another thread has begun

/**
 * x quantised, I a multiple of TERMS, in tiles: [blocks of 16 rows][steps of 64 terms], lane r of a tile's row k holds terms 4k
 * to 4k+3 of row r.
 */
struct TiledRows {
  const int8_t *x = nullptr;
  const float *factors;  // what a step of each row is worth
  int8_t *rest;          // room for 16 rows of each of three weights
  int64_t N, I, steps;

  TiledRows(const T *from, int64_t N, int64_t I, float alpha) : N(N), I(I), steps(I / TERMS) {
    static thread_local Scratch scratch;
    const int64_t blocks = (N + TILE - 1) / TILE, floats = blocks * TILE, bytes = TILE * I;
    float *factors = scratch.floats(floats + 2 * blocks * bytes / 4 + 3 * TILE * I / 4);
    this->factors = factors;
    if (!factors) return;
    int8_t *tiles = reinterpret_cast<int8_t *>(factors + floats), *rows = tiles + blocks * bytes;
    x = tiles;
    rest = rows + blocks * bytes;
    parallelFor(blocks, N * I < SERIAL_ITEMS ? blocks : 1, [&](int64_t begin, int64_t end) {
      for (int64_t b = begin; b < end; b++) packBlock(from, b, alpha, rows + b * bytes, tiles + b * bytes, factors);
    });
  }

 private:
  void packBlock(const T *from, int64_t block, float alpha, int8_t *rows, int8_t *tiles, float *factors) const {
    for (int64_t r = 0; r < TILE; r++) {
      const int64_t n = block * TILE + r;
      int32_t sum;
      if (n < N) quantiseRow(from + n * I, I, I, alpha, rows + r * I, factors[n], sum);
      else memset(rows + r * I, 0, I);
    }
    for (int64_t s = 0; s < steps; s++) {
      vec v[W];
#pragma GCC unroll 16
      for (int r = 0; r < W; r++) memcpy(&v[r], rows + r * I + s * TERMS, sizeof v[r]);
      transpose(v);
#pragma GCC unroll 16
      for (int r = 0; r < W; r++) memcpy(tiles + s * TILE_BYTES + r * TERMS, &v[r], sizeof v[r]);
    }
  }
};

/** What is read ahead: rows of a weight that lie apart are not foreseen by the processor. */
enum class Ahead { NOTHING, NEXT_ROWS };

/** Sums of DOWN times 16 rows of a weight, `stride` bytes apart, and ACROSS blocks of x: int32 [32][32]. */
template <int DOWN, int ACROSS, Ahead A = Ahead::NOTHING>
void multiplyTiles(const int8_t *weight, int64_t stride, const int8_t *x, int64_t steps, int32_t *sums) {
  const int64_t next = steps * TILE_BYTES;
  finishStores();
  _tile_zero(0);
  _tile_zero(1);
  _tile_zero(2);
  _tile_zero(3);
  for (int64_t s = 0; s < steps; s++, weight += TERMS, x += TILE_BYTES) {
    if constexpr (A == Ahead::NEXT_ROWS)
#pragma GCC unroll 32
      for (int i = 0; i < 2 * TILE; i++) __builtin_prefetch(weight + (2 * TILE + i) * stride, 0, 2);
    _tile_loadd(4, weight, stride);
    if constexpr (DOWN == 2) _tile_loadd(5, weight + TILE * stride, stride);
    _tile_loadd(6, x, TERMS);
    if constexpr (ACROSS == 2) _tile_loadd(7, x + next, TERMS);
    _tile_dpbssd(0, 4, 6);
    if constexpr (ACROSS == 2) _tile_dpbssd(1, 4, 7);
    if constexpr (DOWN == 2) _tile_dpbssd(2, 5, 6);
    if constexpr (DOWN == 2 && ACROSS == 2) _tile_dpbssd(3, 5, 7);
  }
  _tile_stored(0, sums, 128);
  if constexpr (ACROSS == 2) _tile_stored(1, sums + TILE, 128);
  if constexpr (DOWN == 2) _tile_stored(2, sums + TILE * 32, 128);
  if constexpr (DOWN == 2 && ACROSS == 2) _tile_stored(3, sums + TILE * 32 + TILE, 128);
  finishStores();  // and what the tiles stored is read after this
}

/** y of 16 rows of x from n on, and 16 outputs from o on. */
inline void writeTile(const TiledRows &rows, const int32_t *sums, const float *scales, T *y, int64_t O, int64_t n,
                      int64_t o) {
  vec v[W];
#pragma GCC unroll 16
  for (int i = 0; i < W; i++) memcpy(&v[i], sums + i * 32, sizeof v[i]);
  transpose(v);
  const int64_t outputs = std::min<int64_t>(TILE, O - o), count = std::min<int64_t>(TILE, rows.N - n);
  const vec scale = outputs == TILE ? load(scales + o) : load(scales + o, outputs);
#pragma GCC unroll 16
  for (int r = 0; r < W; r++) {
    if (r >= count) continue;
    const vec result = __builtin_convertvector((ivec)v[r], vec) * rows.factors[n + r] * scale;
    if (outputs == TILE) store(y + (n + r) * O + o, result);
    else store(y + (n + r) * O + o, result, outputs);
  }
}

namespace {  // T differs between the files that include this

/** One weight [O,I] times all rows, in tasks of 32 outputs and some rows. */
class TiledProduct {
 public:
  static constexpr int64_t SIDE = 2 * TILE, ROWS_PER_TASK = 256;

  /** @param rest room for 16 rows of the weight */
  TiledProduct(const TiledRows &rows, const int8_t *weight, const float *scales, T *y, int64_t O, int8_t *rest)
      : rows_(rows), weight_(weight), scales_(scales), y_(y), O_(O), rest_(rest) {
    const int64_t I = rows.I, left = O - whole();
    if (left > 0) {  // what a tile reads ends with the weight
      memcpy(rest, weight + whole() * I, left * I);
      memset(rest + left * I, 0, (TILE - left) * I);
    }
  }
  int64_t tasks() const { return down() * ((rows_.N + ROWS_PER_TASK - 1) / ROWS_PER_TASK); }

  /** @param sums room for SIDE times SIDE numbers */
  void run(int64_t task, int32_t *sums) const {
    const int64_t I = rows_.I, o = task % down() * SIDE, first = task / down() * ROWS_PER_TASK;
    const int64_t outputs = std::min(SIDE, O_ - o), last = std::min(rows_.N, first + ROWS_PER_TASK);
    const bool isFar = rows_.N * O_ * int64_t(sizeof(T)) > SECOND_LEVEL_BYTES;
    for (int64_t n = first; n < last; n += SIDE) {
      const int8_t *x = rows_.x + n / TILE * rows_.steps * TILE_BYTES;
      const bool wide = last - n > TILE;
      if (isFar)  // what is written is fetched while the products are formed
        for (int64_t i = n; i < std::min(last, n + SIDE); i++) {
          __builtin_prefetch(y_ + i * O_ + o, 1);
          __builtin_prefetch(y_ + i * O_ + o + outputs - 1, 1);
        }
      if (o + SIDE <= whole()) {
        const int8_t *from = weight_ + o * I;
        if (wide && n == first) multiplyTiles<2, 2, Ahead::NEXT_ROWS>(from, I, x, rows_.steps, sums);
        else if (wide) multiplyTiles<2, 2>(from, I, x, rows_.steps, sums);
        else multiplyTiles<2, 1>(from, I, x, rows_.steps, sums);
      } else {
        for (int64_t i = 0; i < outputs; i += TILE) {
          const int8_t *from = o + i < whole() ? weight_ + (o + i) * I : rest_;
          if (wide) multiplyTiles<1, 2>(from, I, x, rows_.steps, sums + i * SIDE);
          else multiplyTiles<1, 1>(from, I, x, rows_.steps, sums + i * SIDE);
        }
      }
      for (int64_t i = 0; i < outputs; i += TILE)
        for (int64_t j = 0; j < last - n && j < SIDE; j += TILE)
          writeTile(rows_, sums + i * SIDE + j, scales_, y_, O_, n + j, o + i);
    }
  }

 private:
  int64_t whole() const { return O_ / TILE * TILE; }
  int64_t down() const { return (O_ + SIDE - 1) / SIDE; }

  const TiledRows &rows_;
  const int8_t *weight_;
  const float *scales_;
  T *y_;
  int64_t O_;
  int8_t *rest_;
};

/** Some weights times all rows. */
template <int COUNT> void runTiled(const TiledProduct (&products)[COUNT], const TiledRows &rows) {
  int64_t count = 0;
  for (const TiledProduct &p : products) count += p.tasks();
  const int64_t operations = TiledProduct::SIDE * rows.I * std::min(rows.N, TiledProduct::ROWS_PER_TASK);
  parallelFor(count, std::max<int64_t>(1, (1 << 21) / operations), [&](int64_t begin, int64_t end) {
    alignas(64) int32_t sums[TiledProduct::SIDE * TiledProduct::SIDE];
    [[maybe_unused]] const MatrixUnit unit{};
    for (int64_t i = begin; i < end; i++) {
      const TiledProduct *p = products;
      int64_t task = i;
      for (; task >= p->tasks(); p++) task -= p->tasks();
      p->run(task, sums);
    }
  });
}

}  // namespace
