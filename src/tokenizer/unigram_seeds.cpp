// What Unigram training starts from: the fragments as one text, its sorted suffixes, the seeds and where they occur.
#include "alphabet.h"
#include "threads.h"
#include "unigram_trainer.h"
#include <cmath>

namespace tokenizer {

/** Writes the fragments as characters of the alphabet; what is outside of it ends a fragment. */
void UnigramTrainer::layOut(const StringTable &words) {
  constexpr uint32_t OUTSIDE = 0xffffffff;
  std::vector<uint32_t> characterOf(0x110000, OUTSIDE);
  for (uint32_t i = 0; i < alphabet.size(); i++) characterOf[alphabet[i]] = i;
  for (size_t i = 0; i < words.size(); i++) {
    const auto &word = words.entry(i);
    uint32_t start = uint32_t(text.size());
    const auto end = [&] {
      if (text.size() > 0xfffffff0) throw std::bad_alloc();
      if (text.size() > start) fragments.push_back({start, uint32_t(text.size()), word.value});
      start = uint32_t(text.size());
    };
    eachCharacter(words.text(word), word.bytes, [&](Character c) {
      const uint32_t character = c.codePoint == INVALID ? OUTSIDE : characterOf[c.codePoint];
      if (character == OUTSIDE) end();
      else text.push_back(character);
    });
    end();
  }
  rest.resize(text.size());
  for (const Fragment &f : fragments)
    for (uint32_t p = f.start; p < f.end; p++) rest[p] = f.end - p;
}

/** Places of text by what stands there, up to one character more than a piece has. */
std::vector<uint32_t> UnigramTrainer::sortSuffixes() const {
  std::vector<uint32_t> bucket(alphabet.size() + 1), suffixes(text.size());
  for (const uint32_t c : text) bucket[c + 1]++;
  for (size_t c = 0; c < alphabet.size(); c++) bucket[c + 1] += bucket[c];
  std::vector<uint32_t> cursor(bucket.begin(), bucket.end() - 1);
  for (uint32_t p = 0; p < text.size(); p++) suffixes[cursor[text[p]]++] = p;
  const uint32_t depth = options.maxPieceLength + 1;
  const auto before = [&](uint32_t a, uint32_t b) {
    const uint32_t restA = std::min(rest[a], depth), restB = std::min(rest[b], depth), both = std::min(restA, restB);
    for (uint32_t i = 1; i < both; i++)
      if (text[a + i] != text[b + i]) return text[a + i] < text[b + i];
    return restA != restB ? restA < restB : a < b;
  };
  std::atomic<size_t> next{0};
  inThreads(options.threads, [&](int) {
    for (size_t c; (c = next.fetch_add(1)) < alphabet.size();)
      std::sort(suffixes.begin() + bucket[c], suffixes.begin() + bucket[c + 1], before);
  });
  return suffixes;
}

/** Every substring that ends where its occurrences go on differently, most text covered first, as many as seedSize. */
std::vector<UnigramTrainer::Candidate> UnigramTrainer::findSeeds(const std::vector<uint32_t> &suffixes) const {
  std::vector<uint64_t> sum(suffixes.size() + 1), weightAt(text.size()); // sum: of the weights of the suffixes before
  for (const Fragment &f : fragments)
    for (uint32_t p = f.start; p < f.end; p++) weightAt[p] = f.weight;
  for (size_t i = 0; i < suffixes.size(); i++) sum[i + 1] = sum[i] + weightAt[suffixes[i]];
  weightAt = {};

  std::vector<Candidate> found;
  struct Open {
    uint32_t first, length;
  };
  std::vector<Open> open;
  const uint32_t depth = options.maxPieceLength + 1;
  const auto note = [&](uint32_t first, uint32_t last, uint32_t length) {
    const uint64_t occurrences = sum[last] - sum[first];
    if (length >= 2 && length < depth && occurrences >= options.minFrequency)
      found.push_back({first, last, length, occurrences});
  };
  const auto common = [&](size_t i) { // characters that suffixes i - 1 and i share
    if (i == 0 || i == suffixes.size()) return uint32_t(0);
    const uint32_t a = suffixes[i - 1], b = suffixes[i], most = std::min({rest[a], rest[b], depth});
    uint32_t same = 0;
    while (same < most && text[a + same] == text[b + same]) same++;
    return same;
  };
  for (size_t i = 0, shared = 0; i < suffixes.size(); i++) {
    const uint32_t further = common(i + 1), whole = std::min(rest[suffixes[i]], depth);
    if (whole > std::max<uint32_t>(shared, further)) note(uint32_t(i), uint32_t(i + 1), whole);
    uint32_t first = uint32_t(i);
    while (!open.empty() && open.back().length > further) {
      first = open.back().first;
      note(first, uint32_t(i + 1), open.back().length);
      open.pop_back();
    }
    if (further > 0 && (open.empty() || open.back().length < further)) open.push_back({first, further});
    shared = further;
  }
  const size_t wanted = options.seedSize > alphabet.size() ? options.seedSize - alphabet.size() : 0;
  if (found.size() > wanted) {
    const auto covers = [](const Candidate &c) { return c.frequency * c.length; };
    std::nth_element(found.begin(), found.begin() + wanted, found.end(), [&](const Candidate &a, const Candidate &b) {
      if (covers(a) != covers(b)) return covers(a) > covers(b);
      return a.first != b.first ? a.first < b.first : a.length < b.length;
    });
    found.resize(wanted);
  }
  return found;
}

/** Lists at every place of text the pieces that start there, short ones first. */
void UnigramTrainer::makeEdges(const std::vector<uint32_t> &suffixes, std::vector<Candidate> &seeds) {
  std::sort(seeds.begin(), seeds.end(), [](const Candidate &a, const Candidate &b) {
    return a.length != b.length ? a.length < b.length : a.first < b.first;
  });
  double total = 0;
  for (uint32_t c = 0; c < alphabet.size(); c++) {
    vocabulary.push_back({0, 1, double(frequency[c]), true});
    total += double(frequency[c]);
  }
  for (uint32_t p = 0; p < text.size(); p++) vocabulary[text[p]].start = p;
  edgeStart.assign(text.size() + 1, 0);
  for (const Candidate &seed : seeds) {
    const double covered = double(seed.frequency) * seed.length;
    vocabulary.push_back({suffixes[seed.first], seed.length, covered, true});
    total += covered;
    for (uint32_t i = seed.first; i < seed.last; i++) edgeStart[suffixes[i] + 1]++;
  }
  for (Piece &piece : vocabulary) piece.score = std::log(piece.score) - std::log(total);
  for (size_t p = 0; p < text.size(); p++) edgeStart[p + 1] += edgeStart[p];
  edges.resize(edgeStart.back());
  std::vector<uint64_t> cursor(edgeStart.begin(), edgeStart.end() - 1);
  uint32_t id = uint32_t(alphabet.size());
  for (const Candidate &seed : seeds) {
    for (uint32_t i = seed.first; i < seed.last; i++) edges[cursor[suffixes[i]]++] = id;
    id++;
  }
  live = vocabulary.size();
}

void UnigramTrainer::prepare(StringTable &&words, const UnigramOptions &wanted) {
  options = wanted;
  Alphabet chosen = chooseAlphabet(words, options.characterCoverage, options.limitAlphabet);
  distinctCharacters = chosen.distinct;
  alphabet = std::move(chosen.codePoints);
  frequency = std::move(chosen.counts);
  layOut(words);
  words = {};
  const std::vector<uint32_t> suffixes = sortSuffixes();
  std::vector<Candidate> seeds = findSeeds(suffixes);
  makeEdges(suffixes, seeds);
}

} // namespace tokenizer
