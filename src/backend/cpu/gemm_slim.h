// Products with few rows: nothing that is packed moves between processors. Every piece of work packs the columns that it
// multiplies, and a thread packs A whole, once, before its first piece. Columns of the next piece come from memory meanwhile:
// of few rows, reading B takes about as long as multiplying. The sums are those of gemm.cpp's way, to the bit.
#pragma once
#include <algorithm>
#include <atomic>
#include <type_traits>
#include <utility>
#include "ahead.h"
#include "gemm.h"
#include "scratch.h"
#include "vector_math.h"

constexpr int64_t ceilDiv(int64_t a, int64_t b) { return (a + b - 1) / b; }

/** One C = alpha * A B + beta * C. Blocks of K are `terms` long, the last may be shorter. */
template <class E, class F, class R> struct Task {
  Operand<E> a;
  Operand<F> b;
  R *c;
  int64_t M, N, K, terms;
  float alpha, beta;
};

/** Columns of B that become a panel. Blocks of K are `terms` long, the last may be shorter; each fills `blockItems`. */
template <class F> struct PanelSource {
  Operand<F> b;  // from the first column on
  int64_t columns, K, terms, blockItems;

  int64_t blocks() const { return (K + terms - 1) / terms; }
  int64_t termsOf(int64_t block) const { return std::min(terms, K - block * terms); }
  Operand<F> at(int64_t block) const { return {b.data + block * terms * b.rowStep, b.rowStep, b.columnStep}; }

  /** What is read of B, where that is in one place. */
  Fetch memory() const {
    if (b.rowStep != 1 || b.columnStep != K) return {};
    return {reinterpret_cast<const char *>(b.data), columns * K * int64_t(sizeof(F))};
  }
};

/** Of blocks of K, so that they are about equal. */
template <class Engine> int64_t blockTerms(int64_t K) {
  return ceilDiv(ceilDiv(K, ceilDiv(K, Engine::KC)), Engine::STEP) * Engine::STEP;
}

/** Factors of the block of K from k on: C = alpha * (A B) + beta * C. With a new C only the last block scales. */
struct Factors {
  float alpha, beta;
  template <class E, class F, class R> Factors(const Task<E, F, R> &p, int64_t k) {
    const bool last = k + p.terms >= p.K;
    if (!std::is_same<R, float>::value) alpha = 1, beta = k > 0;  // sums for `finish`
    else if (p.beta != 0) alpha = p.alpha, beta = k > 0 ? 1 : p.beta;
    else alpha = last ? p.alpha : 1, beta = k > 0 ? alpha : 0;
  }
};

/** alpha * sums + beta * C of a block of a bfloat16 C. Sums lie `stride` apart, rows of C `N`. */
inline void finish(const float *sums, int64_t stride, bf16 *c, int64_t N, int64_t rows, int64_t columns, float alpha, float beta) {
  for (int64_t i = 0; i < rows; i++)
    forVectors(0, columns, [&](int64_t n, auto part) {
      const vec sum = alpha * load(sums + i * stride + n, part);
      store(c + i * N + n, beta == 0 ? sum : sum + beta * load(c + i * N + n, part), part);
    });
}

/** A as one thread has packed it for a call. */
struct PackedLeft {
  uint64_t call = 0;
  Scratch room;
};

inline std::atomic<uint64_t> slimCalls{0};
inline thread_local PackedLeft packedLeft;
inline thread_local Scratch slimColumns, slimSums;

/**
 * The work of all threads on products of one A. An engine's `Rows` multiply a band of rows by a packed panel; its `Next` gets the
 * panel packed that comes next, and `Next::finish` what is left of that.
 */
template <class Engine, class E, class F, class R> class SlimProduct {
 public:
  /** Tasks that differ in B, C and N alone. */
  SlimProduct(const Task<E, F, R> *tasks, int count)
      : tasks_(tasks), task_(tasks[0]), blocks_(ceilDiv(task_.K, task_.terms)), bands_(ceilDiv(task_.M, Engine::MC)) {
    for (int i = 0; i < count; i++) panels_ += panelsOf(tasks[i]);
  }

  /**
   * Whether every thread can pack A and keep it in the second cache level beside columns, and whether each then meets enough
   * columns, where there are more than a few rows.
   */
  bool fits() const {
    if (leftItems() * int64_t(sizeof(Item)) > Engine::SLIM_BYTES) return false;
    return bands_ <= 2 || (bands_ <= Engine::SLIM_BANDS && panels_ >= PANELS_FOR_LEFT * threadCount());
  }

  /** @returns OK, or OUT_OF_MEMORY */
  int run(bool serial) const {
    const uint64_t call = ++slimCalls;
    std::atomic<bool> failed{false};
    std::atomic<int64_t> taken{0};
    const int64_t threads = serial ? 1 : std::min<int64_t>(panels_, threadCount());
    parallelFor(threads, 1, [&](int64_t, int64_t) {
      if (!work(call, [&] { return taken.fetch_add(1, std::memory_order_relaxed); })) failed = true;
    });
    return failed ? OUT_OF_MEMORY : OK;
  }

 private:
  using Item = typename Engine::Item;
  using Rows = typename Engine::Rows;
  using Next = typename Engine::template Next<F>;
  using Turned = typename Engine::template Turned<F>;
  static constexpr bool DIRECT = std::is_same<R, float>::value;
  static constexpr int64_t PANELS_FOR_LEFT = 64;  // packing more than two bands of A takes a few panels' time

  int64_t bandItems() const { return Engine::bandItems(std::min<int64_t>(task_.M, Engine::MC)); }
  int64_t leftItems() const { return bands_ * blocks_ * bandItems(); }
  int64_t blockItems() const { return Engine::panelItems(task_.terms); }
  int64_t terms(int64_t block) const { return std::min(task_.terms, task_.K - block * task_.terms); }
  int64_t bandRows(int64_t band) const { return std::min<int64_t>(Engine::MC, task_.M - band * Engine::MC); }
  static int64_t panelsOf(const Task<E, F, R> &task) { return ceilDiv(task.N, Engine::NR); }

  /** A panel of one of the tasks: columns of its B and C from `first` on. */
  struct Panel {
    const Task<E, F, R> &task;
    int64_t first;
    int64_t width() const { return std::min<int64_t>(Engine::NR, task.N - first); }
  };
  Panel panelAt(int64_t panel) const {
    const Task<E, F, R> *task = tasks_;
    for (; panel >= panelsOf(*task); task++) panel -= panelsOf(*task);
    return {*task, panel * Engine::NR};
  }
  Operand<E> left(int64_t band, int64_t block) const {
    const Operand<E> &a = task_.a;
    return {a.data + band * Engine::MC * a.rowStep + block * task_.terms * a.columnStep, a.rowStep, a.columnStep};
  }
  Rows rows(int64_t band, int64_t block, const Item *items) const {
    return Rows(left(band, block), bandRows(band), terms(block), items + (band * blocks_ + block) * bandItems());
  }
  static Item *itemsOf(Scratch &room, int64_t count) {
    return reinterpret_cast<Item *>(room.floats(ceilDiv(count * int64_t(sizeof(Item)), sizeof(float))));
  }

  /** Columns of a panel, none behind the last. */
  PanelSource<F> source(int64_t panel) const {
    if (panel >= panels_) return {task_.b, 0, 0, task_.terms, 0};
    const Panel at = panelAt(panel);
    const Operand<F> &b = at.task.b;
    return {{b.data + at.first * b.columnStep, b.rowStep, b.columnStep}, at.width(), task_.K, task_.terms, blockItems()};
  }

  /** One thread's share: it takes panels ahead of the one that it multiplies. @returns whether there was memory */
  template <class Take> bool work(uint64_t call, const Take &take) const {
    Item *columns = itemsOf(slimColumns, 2 * blocks_ * blockItems()), *other = columns + blocks_ * blockItems();
    Item *items = itemsOf(packedLeft.room, leftItems());
    float *sums = DIRECT ? nullptr : slimSums.floats(task_.M * Engine::NR);
    if (!columns || !items || (!DIRECT && !sums)) return false;
    int64_t panel = take();
    if (panel >= panels_) return true;
    source(panel).memory().now();
    if (packedLeft.call != call) turns() ? packLeft<Turned>(items) : packLeft<Engine>(items);
    packedLeft.call = call;
    int64_t second = take();
    if (turns()) {
      multiplyTurned(panel, second, items, columns, sums, take);
      return true;
    }
    Next(source(panel), columns, source(second).memory(), 0).finish();
    while (panel < panels_) {
      const int64_t third = second < panels_ ? take() : panels_;
      Next next(source(second), other, source(third).memory(), task_.M);
      multiply(panel, items, columns, sums, next);
      next.finish();
      std::swap(columns, other);
      panel = second;
      second = third;
    }
    return true;
  }

  /** Whether B's terms lie side by side and A has so few rows that its columns are taken as they are. */
  bool turns() const { return task_.M <= Engine::TURNED_ROWS && task_.a.columnStep == 1 && task_.b.rowStep == 1; }

  template <class Way> void packLeft(Item *items) const {
    for (int64_t band = 0; band < bands_; band++)
      for (int64_t block = 0; block < blocks_; block++)
        Way::packRows(left(band, block), bandRows(band), task_.M - band * Engine::MC, terms(block),
                      items + (band * blocks_ + block) * bandItems());
  }

  template <class Take>
  void multiplyTurned(int64_t panel, int64_t second, const Item *items, Item *room, float *sums, const Take &take) const {
    [[maybe_unused]] const typename Engine::Session session{};
    Turned turned(source(panel), source(second), room);
    while (panel < panels_) {
      const int64_t third = second < panels_ ? take() : panels_;
      turned.follow(source(second), source(third));
      const Panel at = panelAt(panel);
      float *c = place(at, sums);
      for (int64_t block = 0; block < blocks_; block++) {
        const Factors factors(task_, block * task_.terms);
        turned.multiply(items + block * bandItems(), task_.M, source(panel), block, c, strideOf(at), factors.alpha, factors.beta);
      }
      if constexpr (!DIRECT) finishPanel(at, c);
      panel = second;
      second = third;
    }
  }

  /** Where a panel's columns of C are summed up, and how far apart their rows lie. */
  static float *place(const Panel &at, float *sums) {
    if constexpr (DIRECT) return at.task.c + at.first;
    else return sums;
  }
  static int64_t strideOf(const Panel &at) { return DIRECT ? at.task.N : Engine::NR; }

  static void finishPanel(const Panel &at, const float *sums) {
    const Task<E, F, R> &t = at.task;
    finish(sums, Engine::NR, t.c + at.first, t.N, t.M, at.width(), t.alpha, t.beta);
  }

  void multiply(int64_t panel, const Item *items, const Item *columns, float *sums, Next &next) const {
    const Panel at = panelAt(panel);
    const int64_t stride = strideOf(at);
    float *c = place(at, sums);
    [[maybe_unused]] const typename Engine::Session session{};
    for (int64_t block = 0; block < blocks_; block++) {
      const Factors factors(task_, block * task_.terms);
      for (int64_t band = 0; band < bands_; band++) {
        const Rows part = rows(band, block, items);
        for (int64_t r = 0; r < part.panels(); r++)
          part.multiply(r, columns + block * blockItems(), c + (band * Engine::MC + part.start(r)) * stride, stride, at.width(),
                        factors.alpha, factors.beta, next);
      }
    }
    if constexpr (!DIRECT) finishPanel(at, c);
  }

  const Task<E, F, R> *const tasks_;
  const Task<E, F, R> &task_;
  const int64_t blocks_, bands_;
  int64_t panels_ = 0;
};
