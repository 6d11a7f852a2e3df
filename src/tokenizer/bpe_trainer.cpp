#include "bpe_trainer.h"
#include "alphabet.h"

namespace tokenizer {

// T5 differs: where a character is not in the alphabet, Hugging Face's trainer joins its neighbours; encoding never does.
constexpr int32_t BARRIER = -1; // between words, and in place of characters outside the alphabet
constexpr int32_t INSIDE = -2;  // neither first nor last character of its piece

static uint64_t keyOf(int32_t left, int32_t right) { return uint64_t(uint32_t(left)) << 32 | uint32_t(right); }

/** Writes the words that can merge as pieces of one character each. */
void BpeTrainer::layOut(const StringTable &words) {
  std::vector<int32_t> pieceOf(0x110000, BARRIER);
  for (uint32_t i = 0; i < alphabet.size(); i++) {
    const uint32_t c = alphabet[i];
    pieceOf[c] = int32_t(i);
    uint8_t utf8[4];
    const uint32_t bytes = writeCharacter(c, utf8);
    spellings(utf8, bytes) = i + 1;
    lengths.push_back(1);
  }
  text.push_back(BARRIER);
  weights.push_back(0);
  for (size_t i = 0; i < words.size(); i++) {
    const auto &word = words.entry(i);
    const uint32_t weight = uint32_t(std::min<uint64_t>(word.value, 0xffffffff));
    const size_t start = text.size();
    eachCharacter(words.text(word), word.bytes, [&](Character c) {
      text.push_back(c.codePoint == INVALID ? BARRIER : pieceOf[c.codePoint]);
    });
    if (text.size() - start < 2) text.resize(start);
    else text.push_back(BARRIER);
    weights.resize(text.size(), weight);
  }
  if (text.size() > 0xffffffff) throw std::bad_alloc();
}

uint32_t BpeTrainer::pairIndex(uint64_t key) {
  const auto slotOf = [&](uint64_t k) { return size_t(mix(k, 0)) & (slots.size() - 1); };
  if (pairs.size() * 2 >= slots.size()) {
    slots.assign(slots.empty() ? 1 << 16 : slots.size() * 2, 0);
    for (size_t i = 0; i < pairs.size(); i++) {
      size_t slot = slotOf(pairs[i].key);
      while (slots[slot] != 0) slot = (slot + 1) & (slots.size() - 1);
      slots[slot] = uint32_t(i + 1);
    }
  }
  size_t slot = slotOf(key);
  for (; slots[slot] != 0; slot = (slot + 1) & (slots.size() - 1))
    if (pairs[slots[slot] - 1].key == key) return slots[slot] - 1;
  pairs.push_back({key, 0, 0, false});
  slots[slot] = uint32_t(pairs.size());
  return uint32_t(pairs.size() - 1);
}

/** Room for the positions of a pair; returns where the first goes. */
uint32_t BpeTrainer::addChunk(uint64_t key, uint32_t length) {
  Pair &p = pairs[pairIndex(key)];
  const size_t chunk = chunks.size();
  if (chunk + length > 0xfffffff0) throw std::bad_alloc();
  chunks.resize(chunk + 2 + length);
  chunks[chunk] = p.places;
  chunks[chunk + 1] = length;
  p.places = uint32_t(chunk);
  return uint32_t(chunk + 2);
}

std::vector<uint32_t> BpeTrainer::placesOf(uint32_t chunk) const {
  std::vector<uint32_t> places;
  const bool several = chunk != 0 && chunks[chunk] != 0;
  for (; chunk != 0; chunk = chunks[chunk])
    places.insert(places.end(), &chunks[chunk + 2], &chunks[chunk + 2] + chunks[chunk + 1]);
  if (several) std::sort(places.begin(), places.end());
  return places;
}

void BpeTrainer::countPairs() {
  const auto eachPair = [&](auto body) {
    for (size_t i = 1; i + 1 < text.size(); i++)
      if (text[i] >= 0 && text[i + 1] >= 0) body(i, keyOf(text[i], text[i + 1]));
  };
  std::vector<uint32_t> lengthOf, cursor;
  eachPair([&](size_t i, uint64_t key) {
    const uint32_t index = pairIndex(key);
    pairs[index].count += weights[i];
    lengthOf.resize(pairs.size());
    lengthOf[index]++;
  });
  for (size_t p = 0; p < pairs.size(); p++) {
    cursor.push_back(addChunk(pairs[p].key, lengthOf[p]));
    queue.push({pairs[p].count, pairs[p].key});
  }
  eachPair([&](size_t i, uint64_t key) { chunks[cursor[pairIndex(key)]++] = uint32_t(i); });
}

void BpeTrainer::prepare(StringTable &&words, const TrainerOptions &wanted) {
  options = wanted;
  const Alphabet chosen = chooseAlphabet(words, options.characterCoverage, std::min(options.limitAlphabet, options.room));
  distinctCharacters = chosen.distinct;
  alphabet = chosen.codePoints;
  alphabet.insert(alphabet.end(), options.wanted.begin(), options.wanted.end());
  std::sort(alphabet.begin(), alphabet.end());
  alphabet.erase(std::unique(alphabet.begin(), alphabet.end()), alphabet.end());
  layOut(words);
  words = {};
  countPairs();
}

/** The piece that a and b make, new or known by another way of joining. */
int32_t BpeTrainer::join(int32_t a, int32_t b) {
  std::vector<uint8_t> spelling;
  for (const int32_t part : {a, b}) {
    const auto &e = spellings.entry(size_t(part));
    spelling.insert(spelling.end(), spellings.text(e), spellings.text(e) + e.bytes);
  }
  uint64_t &known = spellings(spelling.data(), uint32_t(spelling.size()));
  if (known == 0) {
    known = spellings.size();
    lengths.push_back(lengths[a] + lengths[b]);
  }
  return int32_t(known - 1);
}

/** Pairs that one side of a merge changes: keyOf(neighbour, old) loses its weight, keyOf(neighbour, joined) gains it. */
template <class KeyOf> void BpeTrainer::settle(Neighbours &side, KeyOf keyOf, int32_t old, int32_t joined) {
  for (const int32_t piece : side.pieces) {
    pairs[pairIndex(keyOf(piece, old))].count -= side.weight[piece];
    if (lengths[piece] + lengths[joined] < options.maxTokenLength) {
      const uint64_t key = keyOf(piece, joined);
      pairs[pairIndex(key)].count += side.weight[piece];
      side.count[piece] = addChunk(key, side.count[piece]);
      fresh.push_back(key);
    } else {
      side.count[piece] = 0;
    }
    side.weight[piece] = 0;
  }
  for (const auto &place : side.places) {
    uint32_t &cursor = side.count[place.piece];
    if (cursor != 0) chunks[cursor++] = place.position;
  }
  for (const int32_t piece : side.pieces) side.count[piece] = 0;
  side.places.clear();
  side.pieces.clear();
}

/**
 * Joins every a followed by b. A piece stands at its first and at its last character, so that both neighbours are one
 * look away; a place that is no longer such a pair is recognised and skipped.
 */
void BpeTrainer::replace(int32_t a, int32_t b, int32_t joined) {
  const uint32_t lengthA = lengths[a], lengthB = lengths[b];
  for (Neighbours *side : {&left, &right}) {
    side->weight.resize(lengths.size());
    side->count.resize(lengths.size());
  }
  const auto note = [](Neighbours &side, int32_t piece, uint32_t position, uint32_t weight) {
    if (side.count[piece]++ == 0) side.pieces.push_back(piece);
    side.weight[piece] += weight;
    side.places.push_back({piece, position});
  };
  for (const uint32_t start : placesOf(pairs[pairIndex(keyOf(a, b))].places)) {
    const size_t middle = size_t(start) + lengthA, last = middle + lengthB - 1;
    if (text[start] != a || text[middle] != b) continue;
    if (middle - 1 != start) text[middle - 1] = INSIDE;
    if (middle != last) text[middle] = INSIDE;
    text[start] = text[last] = joined;
    const int32_t before = text[start - 1], behind = text[last + 1];
    if (before >= 0) note(left, before, start - lengths[before], weights[start]);
    if (behind >= 0) note(right, behind, start, weights[start]);
  }
  settle(left, [](int32_t piece, int32_t other) { return keyOf(piece, other); }, a, joined);
  settle(right, [](int32_t piece, int32_t other) { return keyOf(other, piece); }, b, joined);
}

uint32_t BpeTrainer::learn(uint32_t count) {
  const int64_t minimum = int64_t(std::max<uint64_t>(options.minFrequency, 1));
  uint32_t learned = 0;
  while (learned < count && pieceCount() < options.room && !queue.empty()) {
    Candidate best = queue.top();
    queue.pop();
    const uint32_t index = pairIndex(best.key);
    if (pairs[index].count != best.count) { // other merges took some of its places
      best.count = pairs[index].count;
      if (best.count >= minimum) queue.push(best);
      continue;
    }
    if (best.count < minimum) break;
    const int32_t a = int32_t(best.key >> 32), b = int32_t(best.key & 0xffffffff), joined = join(a, b);
    if (!pairs[index].learned) {
      merges.push_back({a, b});
      learned++;
    }
    replace(a, b, joined);
    pairs[index].learned = true;
    pairs[index].count = 0;
    pairs[index].places = 0;
    for (const uint64_t key : fresh) {
      const Pair &p = pairs[pairIndex(key)];
      if (p.count >= minimum) queue.push({p.count, key});
    }
    fresh.clear();
  }
  return learned;
}

} // namespace tokenizer
