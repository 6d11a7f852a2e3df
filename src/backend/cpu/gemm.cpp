// Matrix products, see gemm.h. An engine says how panels of both sides are packed and multiplied: VectorEngine in
// gemm_tile.h, MatrixEngine in gemm_amx.h; what is here does not know what a packed item is. B is packed once, by all
// threads, in chunks of a block of K by some columns; then threads take tasks, blocks of C, each of which packs its rows of
// A. Few rows go another way, gemm_slim.h. Every element of C is one sum over K in blocks of the same size, whatever task it
// falls into: the bits depend neither on the number of threads nor on the other rows.
#include "gemm.h"
#include <algorithm>
#include "gemm_slim.h"
#include "gemm_tile.h"
#include "half.h"
#include "scratch.h"
#if defined(__AMX_TILE__)
#include "gemm_amx.h"
template <class E> using Engine = MatrixEngine<E>;
#else
template <class E> using Engine = VectorEngine<E>;
#endif

namespace {

constexpr int64_t M_CHUNK = 1152;                     // rows of a bfloat16 C that are summed up in float at once
constexpr int64_t PANELS_AT_ONCE = 8;                 // of B, which stay in the second cache level with a block of A
constexpr int64_t PACK_COLUMNS = 128;                 // of B that are packed together: of every row some lines that follow each other
constexpr int64_t TASKS_PER_THREAD = 4;               // so that a thread that loses its core delays the others little
constexpr double SERIAL_OPERATIONS = 1e6;             // less is done before another thread has begun

thread_local Scratch packedColumns, sums;  // of the thread that calls gemm
template <class E> alignas(64) thread_local typename Engine<E>::Item packedRows[Engine<E>::BLOCK_ITEMS];

template <class E, class F, class R> struct Product : Task<E, F, R> {
  typename Engine<E>::Item *columns;  // packed B of the current chunk
  float *sums;                        // bf16 only: float sums of the current rows and columns
  int64_t stride;                     // of C's rows or those of the sums
};

/** The work between two packings of B: rows and columns of C, a block of K. */
template <class E> struct Chunk {
  int64_t m0, m1, n0, n1, k0, k1;
  int64_t panels() const { return ceilDiv(n1 - n0, Engine<E>::NR); }
  int64_t terms() const { return k1 - k0; }
};

/** Asks for a block of A that will be packed, one of its rows or columns at a time, spread over so many tiles. */
template <class E> class Ahead {
 public:
  Ahead(Operand<E> block, int64_t rows, int64_t terms, int64_t tiles)
      : at_(reinterpret_cast<const char *>(block.data)), tiles_(tiles) {
    const bool inRows = block.columnStep == 1;
    lines_ = inRows ? rows : terms;
    step_ = (inRows ? block.rowStep : block.columnStep) * int64_t(sizeof(E));
    bytes_ = (inRows ? terms : rows) * int64_t(sizeof(E));
  }
  Fetch part() {
    if ((due_ += lines_) < tiles_) return {};
    due_ -= tiles_;
    return {at_ + step_ * done_++, bytes_};
  }
  void operator()() {}

 private:
  const char *at_;
  int64_t tiles_, lines_, step_, bytes_, due_ = 0, done_ = 0;
};

template <class E, class F, class R> void packChunk(const Product<E, F, R> &p, const Chunk<E> &chunk, bool serial) {
  const int64_t groups = ceilDiv(chunk.n1 - chunk.n0, PACK_COLUMNS);
  parallelFor(groups, serial ? groups : 1, [&](int64_t begin, int64_t end) {
    const Operand<F> block = {p.b.data + chunk.k0 * p.b.rowStep, p.b.rowStep, p.b.columnStep};
    for (int64_t i = begin; i < end; i++) {
      const int64_t first = chunk.n0 + i * PACK_COLUMNS;
      Engine<E>::packColumns(block, first, std::min(chunk.n1, first + PACK_COLUMNS), chunk.terms(),
                             p.columns + i * (PACK_COLUMNS / Engine<E>::NR) * Engine<E>::panelItems(chunk.terms()));
    }
  });
}

template <class E, class F, class R> Operand<E> leftBlock(const Product<E, F, R> &p, int64_t m, int64_t k) {
  return {p.a.data + m * p.a.rowStep + k * p.a.columnStep, p.a.rowStep, p.a.columnStep};
}

/** Rows [m0, m1) and panels [p0, p1) of a chunk of C. Rows [m2, m3) of A from k2 on are what this thread packs next. */
template <class E, class F, class R>
void task(const Product<E, F, R> &p, const Chunk<E> &chunk, int64_t m0, int64_t m1, int64_t p0, int64_t p1, int64_t m2, int64_t m3,
          int64_t k2) {
  constexpr bool direct = std::is_same<R, float>::value;
  constexpr int64_t NR = Engine<E>::NR;
  const int64_t n0 = chunk.n0 + p0 * NR, n1 = std::min(chunk.n1, chunk.n0 + p1 * NR), terms = chunk.terms();
  float *c;
  if constexpr (direct) c = p.c + m0 * p.stride + n0;
  else c = p.sums + (m0 - chunk.m0) * p.stride + p0 * NR;
  [[maybe_unused]] const typename Engine<E>::Session session{};
  const Factors factors(p, chunk.k0);
  const Operand<E> block = leftBlock(p, m0, chunk.k0);
  Engine<E>::packRows(block, m1 - m0, p.M - m0, terms, packedRows<E>);
  const typename Engine<E>::Rows rows(block, m1 - m0, terms, packedRows<E>);
  Ahead<E> ahead(leftBlock(p, m2, k2), m3 - m2, std::min(p.terms, p.K - k2), rows.panels() * (p1 - p0));
  for (int64_t s = p0; s < p1; s += PANELS_AT_ONCE)
    for (int64_t r = 0; r < rows.panels(); r++)
      for (int64_t q = s; q < std::min(p1, s + PANELS_AT_ONCE); q++) {
        const int64_t at = (q - p0) * NR;
        rows.multiply(r, p.columns + q * Engine<E>::panelItems(terms), c + rows.start(r) * p.stride + at, p.stride,
                      n1 - n0 - at, factors.alpha, factors.beta, ahead);
      }
  if constexpr (!direct)
    if (chunk.k1 == p.K) finish(c, p.stride, p.c + m0 * p.N + n0, p.N, m1 - m0, n1 - n0, p.alpha, p.beta);
}

template <class E, class F, class R> void runTasks(const Product<E, F, R> &p, const Chunk<E> &chunk, bool serial) {
  constexpr int64_t MR = Engine<E>::MR;
  const int64_t rows = chunk.m1 - chunk.m0, panels = chunk.panels();
  const int64_t threads = serial ? 1 : threadCount(), tasks = threads == 1 ? 1 : TASKS_PER_THREAD * threads;
  const int64_t most = ceilDiv(rows, Engine<E>::LEAST_ROWS), least = ceilDiv(rows, Engine<E>::MC);
  const int64_t blockRows = ceilDiv(ceilDiv(rows, std::max(least, std::min(tasks, most))), MR) * MR;
  const int64_t down = ceilDiv(rows, blockRows), wanted = ceilDiv(tasks, down);
  const int64_t width = std::max<int64_t>(1, ceilDiv(panels, wanted)), across = ceilDiv(panels, width);
  const int64_t count = down * across;
  const auto start = [&](int64_t i) { return std::min(chunk.m1, chunk.m0 + i / across * blockRows); };
  parallelFor(count, serial ? count : 1, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; i++) {
      const int64_t p0 = i % across * width, next = i + threads, k = next < count ? chunk.k0 : chunk.k1 < p.K ? chunk.k1 : 0;
      task(p, chunk, start(i), start(i + across), p0, std::min(panels, p0 + width), start(next % count),
           start(next % count + across), k);
    }
  });
}

/** A product of many rows. */
template <class E, class F, class R> int largeProduct(const Task<E, F, R> &task) {
  constexpr bool direct = std::is_same<R, float>::value;
  using Tiles = Engine<E>;
  const int64_t M = task.M, N = task.N, K = task.K;
  const bool serial = 2.0 * M * N * K < SERIAL_OPERATIONS;
  const int64_t columns = Tiles::chunkColumns(serial ? 1 : threadCount());
  const int64_t items = Tiles::panelItems(task.terms) * ceilDiv(std::min(N, columns), Tiles::NR);
  const int64_t sumStride = columns + 16;  // not a power of two, whose rows would share cache sets
  Product<E, F, R> p{task, nullptr, nullptr, direct ? N : sumStride};
  p.columns = reinterpret_cast<typename Tiles::Item *>(
      packedColumns.floats(ceilDiv(items * int64_t(sizeof(typename Tiles::Item)), sizeof(float))));
  if (!direct) p.sums = sums.floats(M_CHUNK * sumStride);
  if (!p.columns || (!direct && !p.sums)) return -1;
  const int64_t mChunk = direct ? M : M_CHUNK;
  for (int64_t n = 0; n < N; n += columns)
    for (int64_t m = 0; m < M; m += mChunk)
      for (int64_t k = 0; k < K; k += task.terms) {
        const Chunk<E> chunk{m, std::min(M, m + mChunk), n, std::min(N, n + columns), k, std::min(K, k + task.terms)};
        if (m == 0 || task.terms < K) packChunk(p, chunk, serial);
        runTasks(p, chunk, serial);
      }
  return OK;
}

}  // namespace

template <class E, class F, class R>
int gemms(Operand<E> a, const Right<F, R> *rights, int count, int64_t M, int64_t K, float alpha, float beta) {
  constexpr int MOST = 3;
  Task<E, F, R> tasks[MOST] = {};
  double operations = 0;
  for (int i = 0; i < count; i++) {
    tasks[i] = {a, rights[i].b, rights[i].c, M, rights[i].N, K, blockTerms<Engine<E>>(K), alpha, beta};
    operations += 2.0 * M * K * rights[i].N;
  }
  const SlimProduct<Engine<E>, E, F, R> slim(tasks, count);
  if (slim.fits()) return slim.run(operations < SERIAL_OPERATIONS);
  for (int i = 0; i < count; i++) {
    const int code = largeProduct(tasks[i]);
    if (code != OK) return code;
  }
  return OK;
}

template <class E, class F, class R>
int gemm(Operand<E> a, Operand<F> b, R *c, int64_t M, int64_t N, int64_t K, float alpha, float beta) {
  const Right<F, R> right{b, c, N};
  return gemms(a, &right, 1, M, K, alpha, beta);
}

template int gemm(Operand<float>, Operand<float>, float *, int64_t, int64_t, int64_t, float, float);
template int gemm(Operand<bf16>, Operand<bf16>, bf16 *, int64_t, int64_t, int64_t, float, float);
template int gemm(Operand<bf16>, Operand<bf16>, float *, int64_t, int64_t, int64_t, float, float);
template int gemm(Operand<float>, Operand<half>, float *, int64_t, int64_t, int64_t, float, float);
template int gemms(Operand<float>, const Right<float, float> *, int, int64_t, int64_t, float, float);
template int gemms(Operand<bf16>, const Right<bf16, bf16> *, int, int64_t, int64_t, float, float);
template int gemms(Operand<bf16>, const Right<bf16, float> *, int, int64_t, int64_t, float, float);
template int gemms(Operand<float>, const Right<half, float> *, int, int64_t, int64_t, float, float);
