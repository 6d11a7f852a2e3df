// Byte-pair encoding of one piece of text, with the results of Hugging Face tokenizers' BPE model: symbols are
// characters, the pair of lowest rank merges first, the leftmost of equals first; unknown characters become their
// bytes' tokens or the unknown token.
#pragma once
#include "string_table.h"
#include "unicode.h"
#include "vocabulary.h"
#include <memory>

namespace tokenizer {

constexpr int32_t NO_ID = -1;

struct Merge {
  uint64_t pair; // left id << 32 | right id
  uint32_t rank; // NO_MERGE in an empty slot
  int32_t id;    // of the joined piece
};
constexpr uint32_t NO_MERGE = 0xffffffff;

struct BpeOptions {
  int32_t unknown; // id or NO_ID
  int32_t byteFallback, fuseUnknown, ignoreMerges;
  int32_t byteLevel; // pieces are spelled in GPT-2's characters for bytes, and symbols are bytes
};

class Bpe {
public:
  StringTable pieces; // value: id; where they are asked for while encoding
  StringTable wholes; // byteLevel and ignoreMerges: the same by the bytes that they spell
  BpeOptions options{NO_ID, 0, 0, 0, 0};

  Bpe();
  /** A tokenizer.json's vocabulary and merges. */
  void open(const Vocabulary &vocabulary, const BpeOptions &given);
  void addPiece(const uint8_t *p, uint32_t bytes, int32_t id);
  /** Call after the last piece. */
  void reserveMerges(size_t count);
  /** Ranks are given in rising order; a pair that comes again takes the later rank. */
  void addMerge(int32_t left, int32_t right, uint32_t rank, int32_t id);
  int32_t idOf(const uint8_t *p, uint32_t bytes) const;

  /** Writes the ids of a piece of at least one byte, at most one per byte; returns their end. */
  int32_t *encode(const uint8_t *p, const uint8_t *end, int32_t *out, struct BpeScratch &scratch) const;
  /** Merges symbols in place; returns their end. */
  int32_t *merge(int32_t *ids, int32_t *end, struct BpeScratch &scratch) const;
  /** Id of the piece that is this character, or NO_ID. */
  int32_t characterId(uint32_t c) const {
    if (c == INVALID) return NO_ID;
    const auto &page = characters[c >> 8];
    return page ? page[c & 255] : NO_ID;
  }

private:
  std::vector<Merge> merges; // open addressing
  using Page = std::unique_ptr<int32_t[]>;
  std::vector<Page> characters = std::vector<Page>(0x1100); // ids by code point, [c >> 8][c & 255]
  int32_t byteIds[256];

  void addSymbol(const uint8_t *p, uint32_t bytes, int32_t id);
  const Merge *find(int32_t left, int32_t right) const;
  int32_t *symbols(const uint8_t *p, const uint8_t *end, int32_t *out) const;
  int32_t *byteSymbols(const uint8_t *p, const uint8_t *end, int32_t *out) const;
  int32_t *mergeFew(int32_t *ids, int32_t *end) const;
  int32_t *mergeMany(int32_t *ids, int32_t *end, struct BpeScratch &scratch) const;
};

/** Working memory of one thread, for long pieces. */
struct BpeScratch {
  struct Candidate {
    uint32_t rank, position;
    int32_t id;
    bool operator<(const Candidate &o) const { return rank != o.rank ? rank > o.rank : position > o.position; }
  };
  struct Text {
    const uint8_t *start;
    uint32_t bytes;
  };
  std::vector<uint32_t> next, previous;
  std::vector<int32_t> symbols; // of sentencepiece's BPE
  std::vector<Text> unknown;
  std::vector<Candidate> heap;
};

} // namespace tokenizer
