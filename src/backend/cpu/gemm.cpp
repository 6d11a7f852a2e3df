// Matrix products, see gemm.h. B is packed once, by all threads, in chunks of at most K_CHUNK by N_CHUNK; then threads
// take tasks, blocks of C, each of which packs its rows of A. Every element of C is one sum over K in blocks of the
// same size, whatever task it falls into: the bits do not depend on the number of threads.
#include "gemm.h"
#include <algorithm>
#include "gemm_rows.h"
#include "gemm_tile.h"
#include "scratch.h"

namespace {

constexpr int64_t K_CHUNK = 4 * KC, N_CHUNK = 1024;
constexpr int64_t M_CHUNK = 1152;                     // rows of a bfloat16 C that are summed up in float at once
constexpr int64_t SUM_STRIDE = N_CHUNK + 16;          // not a power of two, whose rows would share cache sets
constexpr int64_t PANELS_AT_ONCE = 8;                 // of B, which stay in the second cache level with a block of A
constexpr int64_t PACK_GROUP = 4;                     // panels of B that are packed together
constexpr int64_t TASKS_PER_THREAD = 4;               // so that a thread that loses its core delays the others little
constexpr double SERIAL_OPERATIONS = 1e6;             // less is done before another thread has begun

constexpr int64_t ceilDiv(int64_t a, int64_t b) { return (a + b - 1) / b; }

thread_local Scratch packedColumns, sums, fewRowsOf;  // of the thread that calls gemm
alignas(64) thread_local float packedRows[BLOCK_FLOATS];

/** One C = alpha * A B + beta * C. Blocks of K are `terms` long, the last may be shorter. */
template <class E, class R> struct Product {
  Operand<E> a, b;
  R *c;
  int64_t M, N, K, terms;
  float alpha, beta;
  float *columns;  // packed B of the current chunk
  float *sums;     // bf16 only: float sums of the current rows and columns, SUM_STRIDE apart
};

/** A part of the work between two packings of B: rows and columns of C, terms of K. */
struct Chunk {
  int64_t m0, m1, n0, n1, k0, k1;
  int64_t panels() const { return ceilDiv(n1 - n0, NR); }
};

/** Where the panels of a block of K begin in the packed chunk. */
template <class E, class R> float *blockOf(const Product<E, R> &p, const Chunk &chunk, int64_t k) {
  return p.columns + (k - chunk.k0) * chunk.panels() * NR;
}

template <class E, class R> void packChunk(const Product<E, R> &p, const Chunk &chunk, bool serial) {
  const int64_t groups = ceilDiv(chunk.panels(), PACK_GROUP), blocks = ceilDiv(chunk.k1 - chunk.k0, p.terms);
  parallelFor(groups * blocks, serial ? groups * blocks : 1, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; i++) {
      const int64_t group = i % groups, k = chunk.k0 + i / groups * p.terms;
      const int64_t terms = std::min(p.terms, chunk.k1 - k), first = chunk.n0 + group * PACK_GROUP * NR;
      const Operand<E> block = {p.b.data + k * p.b.rowStep, p.b.rowStep, p.b.columnStep};
      packColumns(block, first, std::min(chunk.n1, first + PACK_GROUP * NR), terms,
                  blockOf(p, chunk, k) + group * PACK_GROUP * NR * terms, NR * terms);
    }
  });
}

/** alpha * sums + beta * C of a block of a bfloat16 C. */
void finish(const float *sums, bf16 *c, int64_t N, int64_t rows, int64_t columns, float alpha, float beta) {
  for (int64_t i = 0; i < rows; i++)
    forVectors(0, columns, [&](int64_t n, auto part) {
      const vec sum = alpha * load(sums + i * SUM_STRIDE + n, part);
      store(c + i * N + n, beta == 0 ? sum : sum + beta * load(c + i * N + n, part), part);
    });
}

/** A tile that reaches over C's last column: computed beside it, then the part inside is added. */
void edgeTile(Tile tile, const float *a, const float *b, int64_t terms, float *c, int64_t stride, int rows, int columns,
              float alpha, float beta) {
  alignas(64) float part[MR * NR];
  tile(a, b, terms, part, NR, alpha, 0);
  for (int i = 0; i < rows; i++)
    for (int j = 0; j < columns; j++) {
      float &out = c[i * stride + j];
      out = part[i * NR + j] + (beta == 0 ? 0 : beta * out);
    }
}

/** Rows [m0, m1) and panels [p0, p1) of a chunk of C. */
template <class E, class R>
void task(const Product<E, R> &p, const Chunk &chunk, int64_t m0, int64_t m1, int64_t p0, int64_t p1) {
  constexpr bool direct = std::is_same<R, float>::value;
  const int64_t n0 = chunk.n0 + p0 * NR, n1 = std::min(chunk.n1, chunk.n0 + p1 * NR);
  const int64_t stride = direct ? p.N : SUM_STRIDE;
  float *c;
  if constexpr (direct) c = p.c + m0 * stride + n0;
  else c = p.sums + (m0 - chunk.m0) * stride + p0 * NR;
  const Panels panels(m1 - m0);
  for (int64_t k = chunk.k0; k < chunk.k1; k += p.terms) {
    const int64_t terms = std::min(p.terms, chunk.k1 - k);
    const float alpha = direct ? p.alpha : 1, beta = k > 0 ? 1 : direct ? p.beta : 0;
    const Operand<E> block = {p.a.data + m0 * p.a.rowStep + k * p.a.columnStep, p.a.rowStep, p.a.columnStep};
    const Packed order = packRows(block, panels, p.M - m0, terms, packedRows);
    for (int64_t s = p0; s < p1; s += PANELS_AT_ONCE)
      for (int64_t r = 0; r < panels.count; r++) {
        const int rows = panels.height(r);
        const Tile tile = tileOf(rows, order);
        const float *a = packedRows + panelOffset(panels, r, order);
        for (int64_t q = s; q < std::min(p1, s + PANELS_AT_ONCE); q++) {
          const float *b = blockOf(p, chunk, k) + q * NR * terms;
          const int64_t at = (q - p0) * NR;
          float *out = c + panels.start(r) * stride + at;
          if (n0 + at + NR <= n1) tile(a, b, terms, out, stride, alpha, beta);
          else edgeTile(tile, a, b, terms, out, stride, rows, int(n1 - n0 - at), alpha, beta);
        }
      }
  }
  if constexpr (!direct)
    if (chunk.k1 == p.K) finish(c, p.c + m0 * p.N + n0, p.N, m1 - m0, n1 - n0, p.alpha, p.beta);
}

template <class E, class R> void runTasks(const Product<E, R> &p, const Chunk &chunk, bool serial) {
  const int64_t rows = chunk.m1 - chunk.m0, panels = chunk.panels();
  const int64_t blockRows = ceilDiv(ceilDiv(rows, ceilDiv(rows, MC)), MR) * MR, down = ceilDiv(rows, blockRows);
  const int64_t wanted = serial || threadCount() == 1 ? 1 : ceilDiv(TASKS_PER_THREAD * threadCount(), down);
  const int64_t width = std::max<int64_t>(1, ceilDiv(panels, wanted)), across = ceilDiv(panels, width);
  parallelFor(down * across, serial ? down * across : 1, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; i++) {
      const int64_t m0 = chunk.m0 + i / across * blockRows, p0 = i % across * width;
      task(p, chunk, m0, std::min(chunk.m1, m0 + blockRows), p0, std::min(panels, p0 + width));
    }
  });
}

}  // namespace

template <class E, class R>
int gemm(Operand<E> a, Operand<E> b, R *c, int64_t M, int64_t N, int64_t K, float alpha, float beta) {
  if (M <= FEW_ROWS && b.rowStep == 1 && a.columnStep == 1) {
    float *x = fewRowsOf.floats(M * (K + W));
    return x ? fewRows(a, b, c, M, N, K, alpha, beta, x) : -1;
  }
  constexpr bool direct = std::is_same<R, float>::value;
  const int64_t terms = ceilDiv(ceilDiv(K, ceilDiv(K, KC)), PACK_ROWS) * PACK_ROWS;
  const int64_t kChunk = K_CHUNK / KC * terms;
  const bool serial = 2.0 * M * N * K < SERIAL_OPERATIONS;
  Product<E, R> p{a, b, c, M, N, K, terms, alpha, beta, packedColumns.floats(K_CHUNK * N_CHUNK), nullptr};
  if (!direct) p.sums = sums.floats(M_CHUNK * SUM_STRIDE);
  if (!p.columns || (!direct && !p.sums)) return -1;
  const int64_t mChunk = direct ? M : M_CHUNK;
  for (int64_t n = 0; n < N; n += N_CHUNK)
    for (int64_t m = 0; m < M; m += mChunk)
      for (int64_t k = 0; k < K; k += kChunk) {
        const Chunk chunk{m, std::min(M, m + mChunk), n, std::min(N, n + N_CHUNK), k, std::min(K, k + kChunk)};
        if (m == 0 || kChunk < K) packChunk(p, chunk, serial);
        runTasks(p, chunk, serial);
      }
  return OK;
}

template int gemm(Operand<float>, Operand<float>, float *, int64_t, int64_t, int64_t, float, float);
template int gemm(Operand<bf16>, Operand<bf16>, bf16 *, int64_t, int64_t, int64_t, float, float);
template int gemm(Operand<bf16>, Operand<bf16>, float *, int64_t, int64_t, int64_t, float, float);
