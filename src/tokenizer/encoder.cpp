#include "encoder.h"
#include "threads.h"
#include <algorithm>
#include <atomic>
#include <cmath>

namespace tokenizer {

namespace {

struct Key {
  uint64_t words[4];
  uint64_t hash;
};

/** A word of at most KEY bytes; limit: up to where reading is allowed. */
Key keyOf(const uint8_t *p, size_t bytes, const uint8_t *limit) {
  Key key{};
  if (limit - p >= 32) { // whole words, then zeros behind the piece
    memcpy(key.words, p, 32);
    const size_t word = bytes / 8;
    key.words[word] &= (uint64_t(1) << bytes % 8 * 8) - 1;
    for (size_t i = word + 1; i < 4; i++) key.words[i] = 0;
  } else {
    memcpy(key.words, p, bytes);
  }
  key.hash = mix(mix(key.words[0] ^ bytes, key.words[1]), mix(key.words[2], key.words[3]));
  return key;
}

WordCache::Entry &lineOf(const Key &key, WordCache &cache) {
  return cache.entries[key.hash & (cache.entries.size() - 1)];
}

bool holds(const WordCache::Entry &e, const Key &key, size_t bytes) {
  return e.bytes == bytes && memcmp(e.key, key.words, WordCache::KEY) == 0;
}

void remember(WordCache::Entry &e, const Key &key, size_t bytes, const int32_t *ids, size_t count, float limit) {
  if (count > WordCache::IDS) return;
  e.bytes = uint8_t(bytes);
  e.count = uint8_t(count);
  e.limit = limit;
  memcpy(e.key, key.words, WordCache::KEY);
  std::copy(ids, ids + count, e.ids);
}

/** Calls token(id) for the matches of `tokens` and text(p, end) for what lies between them; false where a text is declined. */
template <class OnText, class OnToken>
bool cut(const AddedTokens &tokens, const uint8_t *p, const uint8_t *end, bool skipSpecial, OnText text, OnToken token) {
  while (p < end) {
    const AddedTokens::Match m = tokens.find(p, end, skipSpecial);
    if (!m.start) return text(p, end);
    if (m.start > p && !text(p, m.start)) return false;
    token(m.id);
    p = m.end;
  }
  return true;
}

} // namespace

void Encoder::encodeFresh(const uint8_t *p, const uint8_t *end, ThreadState &s) const {
  if (model == BPE) {
    int32_t *out = s.ids.room(size_t(end - p));
    s.ids.commit(bpe.encode(p, end, out, s.bpe));
  } else if (model == SP_BPE) {
    spBpe.encode(p, end, s.ids, s.bpe);
  } else {
    unigram.best(p, end, s.unigram);
    unigram.write(p, s.unigram, s.ids);
  }
}

void Encoder::encodeWord(const uint8_t *p, const uint8_t *end, const uint8_t *limit, ThreadState &s) const {
  const size_t bytes = size_t(end - p);
  if (bytes > WordCache::KEY) return encodeFresh(p, end, s);
  const Key key = keyOf(p, bytes, limit);
  WordCache::Entry &e = lineOf(key, s.cache);
  if (holds(e, key, bytes)) return s.ids.append(e.ids, e.count);
  const size_t start = s.ids.size();
  encodeFresh(p, end, s);
  remember(e, key, bytes, s.ids.data() + start, s.ids.size() - start, 0);
}

/**
 * A word within sentencepiece's sum in float32. Where the best cut is better than all others by more than rounding can
 * take away at this sum, it need not be searched again; the sum then moves on piece by piece, rounded as always.
 */
void Encoder::encodeSum(const uint8_t *p, const uint8_t *end, const uint8_t *limit, ThreadState &s) const {
  const auto replay = [&](const int32_t *ids, size_t count) {
    for (size_t i = 0; i < count; i++) s.total = unigram.add(s.total, ids[i]);
  };
  const size_t bytes = size_t(end - p);
  if (bytes <= WordCache::KEY) {
    const Key key = keyOf(p, bytes, limit);
    WordCache::Entry &e = lineOf(key, s.cache);
    const bool known = holds(e, key, bytes);
    if (known && std::fabs(s.total) < e.limit) {
      replay(e.ids, e.count);
      return s.ids.append(e.ids, e.count);
    }
    if (!known) {
      const double gap = unigram.best(p, end, s.unigram);
      const bool unknown = std::any_of(s.unigram.runs.begin(), s.unigram.runs.end(),
                                       [&](const auto &run) { return run.id == unigram.unknown; });
      // Each step rounds twice by 2^-24 of the sum, both ways: 2^-22 per byte; a fourth of that is kept in reserve.
      const double room = gap * double(1 << 20) / double(bytes) + s.unigram.nodes[bytes].score;
      double least = 0; // nowhere in the word may a sum start again
      for (const auto &node : s.unigram.nodes)
        if (node.score > LEAST_SUM) least = std::min(least, node.score); // -infinity: no way leads there
      const float safe = unknown ? -1.0f : float(std::min(room, least - LEAST_SUM - 1));
      const size_t start = s.ids.size();
      unigram.write(p, s.unigram, s.ids);
      remember(e, key, bytes, s.ids.data() + start, s.ids.size() - start, safe);
      if (std::fabs(s.total) < safe) return replay(s.ids.data() + start, s.ids.size() - start);
      s.ids.commit(s.ids.data() + start);
    }
  }
  unigram.bestFloat32(p, end, s.total, s.unigram);
  unigram.write(p, s.unigram, s.ids);
}

/** start: ids before are of other texts. */
void Encoder::encodeWords(size_t start, ThreadState &s) const {
  const uint8_t *text = s.words.text.data(), *limit = text + s.words.text.size();
  const bool sums = model == UNIGRAM && unigram.float32;
  const auto one = [&](const uint8_t *p, const uint8_t *end) {
    if (p == end) return;
    const size_t before = s.ids.size();
    if (sums) encodeSum(p, end, limit, s);
    else encodeWord(p, end, limit, s);
    const bool fuses = form == SENTENCEPIECE || (model == BPE && bpe.options.fuseUnknown && hfNormalizer.cut == CUT_RUNS);
    if (fuses && before > start && s.ids.size() > before && s.ids[before] == unknownId() && s.ids[before - 1] == unknownId())
      s.ids.erase(before); // neighbouring unknown characters are one, over words, too
  };
  if (form == SENTENCEPIECE && wholeTexts) return one(text, limit);
  const uint8_t *from = text;
  for (const uint32_t at : s.words.starts) {
    one(from, text + at);
    from = text + at;
  }
  one(from, limit);
}

void Encoder::encodeRules(const uint8_t *p, const uint8_t *end, ThreadState &s) const {
  if (prefixSpace && p < end && *p != ' ') {
    s.scratch.assign(1, ' ');
    s.scratch.insert(s.scratch.end(), p, end);
    p = s.scratch.data();
    end = p + s.scratch.size();
  }
  while (p < end) {
    const uint8_t *stop = preTokenizer.pieceEnd(p, end);
    encodeWord(p, stop, end, s);
    p = stop;
  }
}

bool Encoder::encodePlain(const uint8_t *p, const uint8_t *end, bool first, ThreadState &s) const {
  if (form == RAW) {
    encodeRules(p, end, s);
    return true;
  }
  if (form == SENTENCEPIECE) {
    s.total = 0;
    spNormalizer.run(p, end, true, s.words);
  } else if (!hfNormalizer.run(p, end, first, s.words, s.scratch)) {
    return false;
  }
  encodeWords(s.ids.size(), s);
  return true;
}

bool Encoder::encode(const uint8_t *p, const uint8_t *end, EncodeFlags flags, ThreadState &s) const {
  const bool skip = flags.splitSpecialTokens;
  const uint8_t *start = p;
  const auto token = [&](int32_t id) { s.ids.push(id); };
  if (flags.addSpecialTokens) s.ids.append(prefix.data(), prefix.size());
  const bool done = cut(
      beforeNormalizer, p, end, skip,
      [&](const uint8_t *from, const uint8_t *to) {
        return cut(
            afterNormalizer, from, to, skip,
            [&](const uint8_t *a, const uint8_t *b) { return encodePlain(a, b, a == start, s); }, token);
      },
      token);
  if (flags.addSpecialTokens) s.ids.append(suffix.data(), suffix.size());
  return done;
}

int64_t Encoder::encodeBatch(const uint8_t *bytes, const uint32_t *offsets, uint32_t count, EncodeFlags flags,
                             int threads, uint32_t *idOffsets, uint8_t *declined) {
  const uint32_t block = std::max(1u, std::min(64u, count / uint32_t(threads * 8)));
  threads = int(std::min<uint32_t>(uint32_t(threads), (count + block - 1) / block));
  while (int(states.size()) < threads) states.emplace_back(new ThreadState);
  for (auto &state : states) state->ids.clear();
  places.resize(count);
  std::atomic<uint64_t> next{0};
  inThreads(threads, [&](int thread) {
    ThreadState &s = *states[size_t(thread)];
    for (uint64_t start; (start = next.fetch_add(block)) < count;)
      for (uint32_t i = uint32_t(start); i < std::min<uint64_t>(count, start + block); i++) {
        const size_t before = s.ids.size();
        declined[i] = !encode(bytes + offsets[i], bytes + offsets[i + 1], flags, s);
        if (declined[i]) s.ids.commit(s.ids.data() + before);
        places[i] = {uint32_t(thread), uint32_t(s.ids.size() - before), before};
      }
  });
  int64_t total = 0;
  idOffsets[0] = 0;
  for (uint32_t i = 0; i < count; i++) {
    total += places[i].count;
    idOffsets[i + 1] = uint32_t(total);
  }
  return total;
}

void Encoder::copy(int32_t *ids) const {
  for (const Place &place : places) {
    if (place.count > 0) memcpy(ids, states[place.thread]->ids.data() + place.start, place.count * sizeof(int32_t));
    ids += place.count;
  }
}

} // namespace tokenizer
