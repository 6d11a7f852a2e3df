// feed_forward_int8, CPU. Contract and formula: feed_forward_int8.ts in this folder.
//
// Many rows: each task takes some through the whole layer, so that hidden numbers stay in the second cache level. Few rows:
// the threads share the hidden units, then the outputs.
#include "../activation/functions.h"
#include "../linear_int8/int8_product.h"

#if !defined(COMPUTE_BF16)
namespace {

constexpr int64_t HIDDEN_BYTES = 1 << 19;  // of a task

/** hidden = f(gate) * up, or f(up), for outputs of a pair of panels: of gate's and up's, or of two of up's. */
template <class F, class R>
void writeHidden(F f, const R &rows, const Packed *gate, const Packed &up, int64_t o, int64_t n, int64_t count,
                 const int32_t *sums, float *hidden) {
  for (int at = 0; at < (gate ? PANEL : BOTH); at += W) {
    const int64_t left = up.O - o - at;
    if (left <= 0) return;
    const vec scale = up.scale(o + at), gateScale = gate ? gate->scale(o + at) : vec{};
    const auto write = [&](auto part) {
      for (int64_t r = 0; r < count; r++) {
        const float step = rows.steps[n + r];
        const int32_t *from = sums + r * BOTH + at;
        const vec inner = f.value(worth(from, step, gate ? gateScale : scale));
        store(hidden + (n + r) * up.O + o + at, gate ? inner * worth(from + PANEL, step, scale) : inner, part);
      }
    };
    if (left >= W) write(Whole{});
    else write(left);
  }
}

/** A layer. */
template <class D, class F> struct FeedForward {
  typedef Rows<typename D::Item> QuantisedRows;

  F f;
  Norm norm;
  const Packed *gate;
  const Packed &up, &down;

  int64_t units() const { return gate ? up.panels() : up.pairs(); }

  /** Hidden numbers of a unit of panels, of `count` rows. */
  void expand(const QuantisedRows &rows, int64_t count, int64_t unit, const PairRoom &room, float *hidden) const {
    const auto out = [&](int64_t n, int64_t height, const int32_t *sums) __attribute__((always_inline)) {
      writeHidden(f, rows, gate, up, unit * (gate ? PANEL : BOTH), n, height, sums, hidden);
    };
    if (!gate) return multiplyPair<D>(rows, count, up, unit, room, out);
    D::multiply(rows, 0, count, gate->at(unit, room.first), up.at(unit, room.second), out);
  }

  int byRows(float *x, int64_t N, int64_t rowsOfTask) const {
    const int64_t M = up.I, H = up.O, outer = QuantisedRows::size(rowsOfTask, M), hiddenRows = QuantisedRows::size(rowsOfTask, H);
    const int64_t pair = PairRoom::size(std::max(M, H)), all = outer + hiddenRows + pair + M + rowsOfTask * H;
    const bool done = withMemory(N, rowsOfTask, all, [&](int64_t begin, int64_t end, float *memory) {
      const int64_t count = end - begin;
      const QuantisedRows rows(memory, count, M), inner(memory + outer, count, H);
      float *const room = memory + outer + hiddenRows, *const h = room + pair, *const hidden = h + M;
      for (int64_t n = 0; n < count; n++) rows.quantise(n, x + (begin + n) * M, 1, norm, h);
      [[maybe_unused]] const typename D::Unit unit{};
      for (int64_t u = 0; u < units(); u++) expand(rows, count, u, {room, M}, hidden);
      for (int64_t n = 0; n < count; n++) inner.quantise(n, hidden + n * H, 1);
      for (int64_t p = 0; p < down.pairs(); p++) add(inner, count, p, {room, H}, x + begin * M);
    });
    return done ? OK : OUT_OF_MEMORY;
  }

  int byOutputs(float *x, int64_t N) const {
    static thread_local Scratch scratch;
    const int64_t M = up.I, H = up.O, outer = QuantisedRows::size(N, M), hiddenRows = QuantisedRows::size(N, H);
    float *memory = scratch.floats(outer + hiddenRows + N * H);
    if (!memory) return OUT_OF_MEMORY;
    const QuantisedRows rows(memory, N, M), inner(memory + outer, N, H);
    float *hidden = memory + outer + hiddenRows;
    const auto grain = [](int64_t I) { return std::max<int64_t>(1, SERIAL_NUMBERS / I); };
    const auto read = [&](int64_t begin, int64_t end, float *h) {
      for (int64_t n = begin; n < end; n++) rows.quantise(n, x + n * M, 1, norm, h);
    };
    const auto widen = [&](int64_t begin, int64_t end, float *room) {
      [[maybe_unused]] const typename D::Unit unit{};
      for (int64_t u = begin; u < end; u++) expand(rows, N, u, {room, M}, hidden);
    };
    const auto narrow = [&](int64_t begin, int64_t end, float *room) {
      [[maybe_unused]] const typename D::Unit unit{};
      for (int64_t p = begin; p < end; p++) add(inner, N, p, {room, H}, x);
    };
    const bool isWide = withMemory(N, grain(M), M, read) &&
                        withMemory(units(), pairsOfTask(units(), BOTH * M, N), PairRoom::size(M), widen);
    if (!isWide) return OUT_OF_MEMORY;
    parallelFor(N, grain(H), [&](int64_t begin, int64_t end) {
      for (int64_t n = begin; n < end; n++) inner.quantise(n, hidden + n * H, 1);
    });
    const bool done = withMemory(down.pairs(), pairsOfTask(down.pairs(), BOTH * H, N), PairRoom::size(H), narrow);
    return done ? OK : OUT_OF_MEMORY;
  }

 private:
  void add(const QuantisedRows &inner, int64_t count, int64_t pair, const PairRoom &room, float *x) const {
    multiplyPair<D>(inner, count, down, pair, room, [&](int64_t n, int64_t height, const int32_t *sums) {
      writePair<Write::ADD>(inner, down, pair, n, height, sums, x);
    });
  }
};

}  // namespace

KERNEL(feed_forward_int8)(const float *norm, const int8_t *gate, const float *gateScales, const int8_t *up, const float *upScales,
                          const int8_t *down, const float *downScales, float *x, int64_t M, int64_t F, int64_t N, float eps,
                          int32_t kind) {
  const Packed gates{gate, gateScales, F, M}, ups{up, upScales, F, M}, downs{down, downScales, M, F};
  int result = OK;
  const int known = with(kind, [&](auto f) {
    result = withDots(N, M | F, [&](auto dots) {
      const FeedForward<decltype(dots), decltype(f)> layer{f, {norm, eps}, gate ? &gates : nullptr, ups, downs};
      const int64_t rows = rowsOfTask(N), most = std::max<int64_t>(32, HIDDEN_BYTES / (4 * F) / 32 * 32);
      return rows > 0 ? layer.byRows(x, N, std::min(rows, most)) : layer.byOutputs(x, N);
    });
  });
  return known == OK ? result : known;
}
#endif
