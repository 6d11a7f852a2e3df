// C interface of training, for train.ts. Handles are addresses; nothing throws across the boundary.
#include "boundary.h"
#include "bpe_trainer.h"
#include "unigram_trainer.h"
#include "word_counter.h"
#include <algorithm>

using namespace tokenizer;

struct Training {
  WordCounter words;
  BpeTrainer bpe;
  UnigramTrainer unigram;
};

static Training &training(uint64_t handle) { return *reinterpret_cast<Training *>(handle); }

/** A training whose words are cut by pairs kind, option as struct Rule, or without rules as CutOptions say; or 0. */
extern "C" uint64_t fat5_training_create(const int32_t *rules, uint32_t count, uint32_t cuts) {
  Training *made = nullptr;
  const int64_t done = guarded([&] {
    made = new Training;
    for (uint32_t i = 0; i < count; i++) made->words.preTokenizer.rules.push_back({rules[2 * i], rules[2 * i + 1]});
    made->words.cuts = cuts;
    made->words.normalizer.marksSpaces = count == 0;
    return int64_t(0);
  });
  if (done == 0) return uint64_t(made);
  delete made;
  return 0;
}

extern "C" int fat5_training_free(uint64_t handle) {
  delete &training(handle);
  return 0;
}

/** Rules for text before it is counted, as a precompiled charsmap. */
extern "C" int64_t fat5_training_rules(uint64_t handle, const uint8_t *charsmap, uint64_t bytes) {
  return guarded([&] { return int64_t(training(handle).words.normalizer.rules.open(charsmap, bytes) ? 0 : BAD_STRINGS); });
}

extern "C" int64_t fat5_training_symbol(uint64_t handle, const uint8_t *symbol, uint64_t bytes) {
  return guarded([&] {
    training(handle).words.normalizer.addSymbol({reinterpret_cast<const char *>(symbol), size_t(bytes)});
    return int64_t(0);
  });
}

extern "C" int64_t fat5_training_feed(uint64_t handle, const uint8_t *bytes, const uint32_t *offsets, uint32_t count,
                                      int32_t threads) {
  return guarded([&] {
    training(handle).words.feed(bytes, offsets, count, threads);
    return int64_t(0);
  });
}

/** statistics[3]: distinct words, distinct characters, characters in the alphabet. */
extern "C" int64_t fat5_bpe_prepare(uint64_t handle, double characterCoverage, uint32_t limitAlphabet, uint32_t room,
                                    double minFrequency, uint32_t maxTokenLength, double *statistics) {
  return guarded([&] {
    BpeTrainer &t = training(handle).bpe;
    StringTable words = training(handle).words.take();
    statistics[0] = double(words.size());
    std::vector<uint32_t> bytes;
    for (uint32_t b = 0; b < 256 && training(handle).words.cuts & BYTE_LEVEL; b++)
      bytes.push_back(byteCharacter(uint8_t(b)));
    t.prepare(std::move(words),
              {characterCoverage, limitAlphabet, room, uint64_t(minFrequency), maxTokenLength, std::move(bytes)});
    statistics[1] = double(t.distinctCharacters);
    statistics[2] = double(t.alphabet.size());
    return int64_t(0);
  });
}

/** Learns up to count merges; returns how many. pieces: known so far. */
extern "C" int64_t fat5_bpe_learn(uint64_t handle, uint32_t count, uint32_t *pieces) {
  return guarded([&] {
    const uint32_t learned = training(handle).bpe.learn(count);
    *pieces = uint32_t(training(handle).bpe.pieceCount());
    return int64_t(learned);
  });
}

/** alphabet: code points; merges: pairs of pieces, left and right; null to ask for the number of merges only. */
extern "C" int64_t fat5_bpe_result(uint64_t handle, uint32_t *alphabet, int32_t *merges) {
  const BpeTrainer &t = training(handle).bpe;
  if (alphabet) std::copy(t.alphabet.begin(), t.alphabet.end(), alphabet);
  for (const auto &m : t.merges) {
    if (!merges) break;
    *merges++ = m.left;
    *merges++ = m.right;
  }
  return int64_t(t.merges.size());
}

/** sizes[6]: alphabet at most, room, target, maxPieceLength, seedSize, subIterations; statistics as for BPE. */
extern "C" int64_t fat5_unigram_prepare(uint64_t handle, double characterCoverage, double minFrequency,
                                        double shrinkingFactor, const uint32_t *sizes, int32_t threads,
                                        double *statistics) {
  return guarded([&] {
    UnigramTrainer &t = training(handle).unigram;
    StringTable words = training(handle).words.take();
    statistics[0] = double(words.size());
    t.prepare(std::move(words), {characterCoverage, sizes[0], sizes[1], sizes[2], uint64_t(minFrequency), sizes[3],
                                 sizes[4], shrinkingFactor, sizes[5], threads});
    statistics[1] = double(t.distinctCharacters);
    statistics[2] = double(t.alphabetSize());
    return int64_t(0);
  });
}

/** One round; 0: it was the last. pieces: that are left. */
extern "C" int64_t fat5_unigram_round(uint64_t handle, uint32_t *pieces) {
  return guarded([&] {
    UnigramTrainer &t = training(handle).unigram;
    const bool more = t.round();
    *pieces = uint32_t(t.pieceCount());
    return int64_t(more);
  });
}

/** Characters of all pieces one after the other, the number of each piece's, scores; returns the number of characters. */
extern "C" int64_t fat5_unigram_result(uint64_t handle, uint32_t *characters, uint32_t *lengths, double *scores) {
  int64_t total = 0;
  for (const auto &piece : training(handle).unigram.pieces) {
    total += int64_t(piece.characters.size());
    if (!characters) continue;
    characters = std::copy(piece.characters.begin(), piece.characters.end(), characters);
    *lengths++ = uint32_t(piece.characters.size());
    *scores++ = piece.score;
  }
  return total;
}
