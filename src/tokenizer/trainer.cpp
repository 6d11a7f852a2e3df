// C interface of the trainer, for train.ts. Handles are addresses; nothing throws across the boundary.
#include "boundary.h"
#include "bpe_trainer.h"
#include <algorithm>

using namespace tokenizer;

static BpeTrainer &trainer(uint64_t handle) { return *reinterpret_cast<BpeTrainer *>(handle); }

/** A trainer that cuts text by pairs kind, option as struct Rule; or 0. */
extern "C" uint64_t fat5_trainer_create(const int32_t *rules, uint32_t count) {
  BpeTrainer *made = new (std::nothrow) BpeTrainer;
  if (made)
    for (uint32_t i = 0; i < count; i++) made->preTokenizer.rules.push_back({rules[2 * i], rules[2 * i + 1]});
  return uint64_t(made);
}

extern "C" int fat5_trainer_free(uint64_t handle) {
  delete &trainer(handle);
  return 0;
}

extern "C" int64_t fat5_trainer_feed(uint64_t handle, const uint8_t *bytes, const uint32_t *offsets, uint32_t count,
                                     int32_t threads) {
  return guarded([&] {
    trainer(handle).feed(bytes, offsets, count, threads);
    return int64_t(0);
  });
}

/** statistics[3]: distinct words, distinct characters, characters in the alphabet. */
extern "C" int64_t fat5_trainer_prepare(uint64_t handle, double characterCoverage, uint32_t limitAlphabet,
                                        uint32_t room, double minFrequency, uint32_t maxTokenLength,
                                        double *statistics) {
  return guarded([&] {
    BpeTrainer &t = trainer(handle);
    t.prepare({characterCoverage, limitAlphabet, room, uint64_t(minFrequency), maxTokenLength});
    statistics[0] = double(t.distinctWords);
    statistics[1] = double(t.distinctCharacters);
    statistics[2] = double(t.alphabet.size());
    return int64_t(0);
  });
}

/** Learns up to count merges; returns how many. pieces: known so far. */
extern "C" int64_t fat5_trainer_learn(uint64_t handle, uint32_t count, uint32_t *pieces) {
  return guarded([&] {
    const uint32_t learned = trainer(handle).learn(count);
    *pieces = uint32_t(trainer(handle).pieceCount());
    return int64_t(learned);
  });
}

/** alphabet: code points; merges: pairs of pieces, left and right; null to ask for the number of merges only. */
extern "C" int64_t fat5_trainer_result(uint64_t handle, uint32_t *alphabet, int32_t *merges) {
  const BpeTrainer &t = trainer(handle);
  if (alphabet) std::copy(t.alphabet.begin(), t.alphabet.end(), alphabet);
  for (const auto &m : t.merges) {
    if (!merges) break;
    *merges++ = m.left;
    *merges++ = m.right;
  }
  return int64_t(t.merges.size());
}
