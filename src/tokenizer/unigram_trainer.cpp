#include "unigram_trainer.h"
#include "threads.h"
#include <algorithm>
#include <cmath>
#include <limits>
#include <mutex>

namespace tokenizer {

constexpr double FIXED_POINT = 1 << 20;        // expected counts are whole multiples of its inverse
constexpr double LEAST_EXPECTED = 0.5;         // pieces expected less often are dropped
constexpr double UNKNOWN_PENALTY = 10;         // of a character that is no piece, below the least score
constexpr double REVIVED_STEP = 1e-4;          // between the scores of characters that had been dropped
constexpr int SHIFT = 300;                     // forward and backward sums are kept above 2^-SHIFT
constexpr size_t PLACES_PER_TASK = 1 << 14;

/** Digamma for x > 0: the recurrence up to 7, then the asymptotic series. */
static double digamma(double x) {
  double result = 0;
  for (; x < 7; x++) result -= 1 / x;
  x -= 0.5;
  const double r = 1 / x, r2 = r * r, r4 = r2 * r2;
  return result + std::log(x) + r2 / 24 - 7.0 / 960 * r4 + 31.0 / 8064 * r4 * r2 - 127.0 / 30720 * r4 * r4;
}

/** Drops the other pieces; characters stay in the vocabulary, but not alive. */
void UnigramTrainer::keepPieces(const std::vector<uint8_t> &keep) {
  constexpr uint32_t DROPPED = 0xffffffff;
  std::vector<uint32_t> moved(vocabulary.size(), DROPPED);
  uint32_t kept = 0;
  live = 0;
  for (uint32_t id = 0; id < vocabulary.size(); id++) {
    const bool isCharacter = id < alphabet.size();
    if (isCharacter) vocabulary[id].alive = keep[id];
    live += keep[id];
    if (!isCharacter && !keep[id]) continue;
    moved[id] = kept;
    vocabulary[kept++] = vocabulary[id];
  }
  vocabulary.resize(kept);
  uint64_t to = 0;
  for (size_t p = 0, from = 0; p < text.size(); p++) {
    const uint64_t end = edgeStart[p + 1];
    for (; from < end; from++)
      if (moved[edges[from]] != DROPPED) edges[to++] = moved[edges[from]];
    edgeStart[p + 1] = to;
  }
  edges.resize(to);
}

double UnigramTrainer::unknownScore() const {
  double least = 0;
  for (const Piece &piece : vocabulary)
    if (piece.alive) least = std::min(least, piece.score);
  return least - UNKNOWN_PENALTY;
}

void UnigramTrainer::setWeights(bool logarithms) {
  const double unknown = unknownScore();
  weights.resize(vocabulary.size());
  for (size_t id = 0; id < vocabulary.size(); id++) {
    const double score = vocabulary[id].alive ? vocabulary[id].score : unknown;
    weights[id] = {logarithms ? score : std::exp(score), vocabulary[id].length};
  }
}

/** Sum over all fragments of what body(fragment, lattice) adds to lattice.counts. */
template <class OnFragment> std::vector<int64_t> UnigramTrainer::overFragments(OnFragment body) {
  std::vector<int64_t> total(vocabulary.size());
  std::atomic<size_t> next{0};
  std::mutex adding;
  inThreads(options.threads, [&](int) {
    Lattice lattice;
    lattice.counts.resize(vocabulary.size());
    // Tasks of about as many places, cut where a fragment begins.
    for (size_t task; (task = next.fetch_add(1)) * PLACES_PER_TASK < text.size();) {
      const auto startsBefore = [](const Fragment &f, size_t place) { return f.start < place; };
      auto f = std::lower_bound(fragments.begin(), fragments.end(), task * PLACES_PER_TASK, startsBefore);
      for (; f != fragments.end() && f->start < (task + 1) * PLACES_PER_TASK; f++) body(*f, lattice);
    }
    const std::lock_guard<std::mutex> lock(adding);
    for (size_t id = 0; id < total.size(); id++) total[id] += lattice.counts[id];
  });
  return total;
}

/**
 * Adds the expected number of every piece, over all segmentations of a fragment by their probability. Sums that get
 * small are scaled by 2^SHIFT together with those ahead that build on them; `shift` says how often by each place.
 */
void UnigramTrainer::expect(const Fragment &fragment, Lattice &lattice) const {
  const uint32_t length = fragment.end - fragment.start, reach = options.maxPieceLength;
  const double tiny = std::ldexp(1, -SHIFT), lift = std::ldexp(1, SHIFT);
  std::vector<double> &forward = lattice.forward, &backward = lattice.backward;
  forward.assign(length + 1, 0);
  if (backward.size() <= length) backward.resize(length + 1);
  if (lattice.shift.size() <= length) lattice.shift.resize(length + 1);
  forward[0] = 1;
  int32_t lifted = 0;
  const auto liftFrom = [&](std::vector<double> &sums, uint32_t i) {
    for (uint32_t k = i; k <= std::min(i + reach, length); k++) sums[k] *= lift;
    lifted++;
  };
  for (uint32_t i = 0; i < length; i++) {
    if (forward[i] < tiny) liftFrom(forward, i);
    lattice.shift[i] = lifted;
    const uint32_t place = fragment.start + i;
    const double sum = forward[i];
    forward[i + 1] += sum * weights[text[place]].value;
    for (uint64_t e = edgeStart[place]; e < edgeStart[place + 1]; e++) {
      const Weight &piece = weights[edges[e]];
      forward[i + piece.length] += sum * piece.value;
    }
  }
  const int32_t all = lifted;
  const double scale = double(fragment.weight) * FIXED_POINT / forward[length];
  lifted = 0;
  backward[length] = 1;
  for (uint32_t i = length; i-- > 0;) {
    const uint32_t place = fragment.start + i;
    const int32_t apart = all - lattice.shift[i] - lifted;
    const double from = forward[i] * (apart == 0 ? scale : std::ldexp(scale, SHIFT * apart));
    const Weight &character = weights[text[place]];
    double sum = character.value * backward[i + 1];
    lattice.counts[text[place]] += std::llrint(from * sum);
    for (uint64_t e = edgeStart[place]; e < edgeStart[place + 1]; e++) {
      const Weight &piece = weights[edges[e]];
      const double onwards = piece.value * backward[i + piece.length];
      lattice.counts[edges[e]] += std::llrint(from * onwards);
      sum += onwards;
    }
    backward[i] = sum;
    if (sum < tiny) liftFrom(backward, i);
  }
}

/** Adds the pieces of a fragment's likeliest segmentation. */
void UnigramTrainer::segment(const Fragment &fragment, Lattice &lattice) const {
  const uint32_t length = fragment.end - fragment.start;
  std::vector<double> &score = lattice.forward;
  score.assign(length + 1, -std::numeric_limits<double>::infinity());
  if (lattice.best.size() <= length) lattice.best.resize(length + 1);
  score[0] = 0;
  for (uint32_t i = 0; i < length; i++) {
    const uint32_t place = fragment.start + i;
    const auto reach = [&](uint32_t id) {
      const Weight &piece = weights[id];
      const double found = score[i] + piece.value;
      if (found > score[i + piece.length]) score[i + piece.length] = found, lattice.best[i + piece.length] = id;
    };
    reach(text[place]);
    for (uint64_t e = edgeStart[place]; e < edgeStart[place + 1]; e++) reach(edges[e]);
  }
  for (uint32_t i = length; i > 0; i -= weights[lattice.best[i]].length)
    lattice.counts[lattice.best[i]] += int64_t(fragment.weight);
}

void UnigramTrainer::maximise(const std::vector<int64_t> &expected) {
  std::vector<uint8_t> keep(vocabulary.size());
  double sum = 0;
  for (size_t id = 0; id < vocabulary.size(); id++) {
    const double count = double(expected[id]) / FIXED_POINT;
    keep[id] = vocabulary[id].alive && count >= LEAST_EXPECTED;
    if (!keep[id]) continue;
    vocabulary[id].score = digamma(count);
    sum += count;
  }
  const double total = digamma(std::max(sum, LEAST_EXPECTED));
  for (size_t id = 0; id < vocabulary.size(); id++)
    if (keep[id]) vocabulary[id].score -= total;
  keepPieces(keep);
}

/**
 * What the log likelihood loses when the best other segmentation takes the place of a piece: 0 when that one is better
 * already. counts: by the best segmentation of all fragments; total: their sum.
 */
double UnigramTrainer::lossWithout(uint32_t piece, const std::vector<int64_t> &counts, double total,
                                   Lattice &lattice) const {
  const Piece &whole = vocabulary[piece];
  std::vector<double> &score = lattice.forward;
  score.assign(whole.length + 1, -std::numeric_limits<double>::infinity());
  lattice.best.resize(std::max<size_t>(lattice.best.size(), whole.length + 1));
  score[0] = 0;
  for (uint32_t i = 0; i < whole.length; i++) {
    const uint32_t place = whole.start + i;
    const auto reach = [&](uint32_t id) {
      const Weight &part = weights[id];
      if (i + part.length > whole.length || id == piece) return;
      const double found = score[i] + part.value;
      if (found > score[i + part.length]) score[i + part.length] = found, lattice.best[i + part.length] = id;
    };
    reach(text[place]);
    for (uint64_t e = edgeStart[place]; e < edgeStart[place + 1]; e++) reach(edges[e]);
  }
  if (score[whole.length] > whole.score) return 0;
  const double count = double(counts[piece]);
  double parts = 0, others = 0;
  for (uint32_t i = whole.length; i > 0; i -= weights[lattice.best[i]].length) {
    others += std::log(double(counts[lattice.best[i]]) + count);
    parts++;
  }
  others -= parts * std::log(total + count * (parts - 1));
  return std::max(count * (std::log(count) - std::log(total) - others), std::numeric_limits<double>::min());
}

/** Keeps characters in use and, of the pieces, those whose loss would cost most. */
void UnigramTrainer::prune() {
  setWeights(true);
  const std::vector<int64_t> counts = overFragments([&](const Fragment &f, Lattice &l) { segment(f, l); });
  double total = 0;
  for (const int64_t count : counts) total += double(count);
  std::vector<double> loss(vocabulary.size());
  std::atomic<size_t> next{0};
  inThreads(options.threads, [&](int) {
    Lattice lattice;
    constexpr size_t PER_TASK = 256;
    for (size_t task; (task = next.fetch_add(1)) * PER_TASK < vocabulary.size();)
      for (size_t id = task * PER_TASK; id < std::min(vocabulary.size(), (task + 1) * PER_TASK); id++)
        if (id >= alphabet.size() && counts[id] > 0) loss[id] = lossWithout(uint32_t(id), counts, total, lattice);
  });
  std::vector<uint8_t> keep(vocabulary.size());
  size_t characters = 0;
  for (size_t id = 0; id < alphabet.size(); id++)
    characters += keep[id] = vocabulary[id].alive && counts[id] > 0;
  std::vector<uint32_t> candidates;
  for (uint32_t id = uint32_t(alphabet.size()); id < vocabulary.size(); id++)
    if (loss[id] > 0) candidates.push_back(id);
  const size_t size = std::max<size_t>(options.target, size_t(options.shrinkingFactor * double(live)));
  const size_t wanted = std::min(candidates.size(), size > characters ? size - characters : 0);
  std::nth_element(candidates.begin(), candidates.begin() + wanted, candidates.end(), [&](uint32_t a, uint32_t b) {
    return loss[a] != loss[b] ? loss[a] > loss[b] : a < b;
  });
  for (size_t i = 0; i < wanted; i++) keep[candidates[i]] = true;
  keepPieces(keep);
}

bool UnigramTrainer::round() {
  for (uint32_t i = 0; i < options.subIterations; i++) {
    setWeights(false);
    maximise(overFragments([&](const Fragment &f, Lattice &l) { expect(f, l); }));
  }
  const size_t before = live;
  if (before > options.target) prune();
  if (before > options.target && live < before) return true;
  finish();
  return false;
}

/** The alphabet and the likeliest other pieces that fit. */
void UnigramTrainer::finish() {
  double revived = unknownScore() + UNKNOWN_PENALTY;
  std::vector<uint32_t> chosen;
  for (uint32_t id = 0; id < vocabulary.size(); id++) {
    if (id < alphabet.size() && !vocabulary[id].alive) {
      vocabulary[id].score = revived;
      revived += REVIVED_STEP;
    }
    chosen.push_back(id);
  }
  const auto likelier = [&](uint32_t a, uint32_t b) {
    return vocabulary[a].score != vocabulary[b].score ? vocabulary[a].score > vocabulary[b].score : a < b;
  };
  std::sort(chosen.begin() + alphabet.size(), chosen.end(), likelier);
  chosen.resize(std::max(alphabet.size(), std::min<size_t>(chosen.size(), options.room)));
  std::sort(chosen.begin(), chosen.end(), likelier);
  for (const uint32_t id : chosen) {
    LearnedPiece piece{{}, vocabulary[id].score};
    for (uint32_t i = 0; i < vocabulary[id].length; i++) piece.characters.push_back(alphabet[text[vocabulary[id].start + i]]);
    pieces.push_back(std::move(piece));
  }
  live = pieces.size();
}

} // namespace tokenizer
