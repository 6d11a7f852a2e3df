// A vocabulary as its file or TypeScript gives it: what encoders are filled from and what TypeScript asks for pieces.
#pragma once
#include "string_table.h"
#include "unicode.h"

namespace tokenizer {

/** Ids from here on are taken for damage, as in schema.ts. */
constexpr int32_t ID_LIMIT = 1 << 22;

/** What a piece of a spiece.model is for. */
enum PieceType : uint8_t { NORMAL = 1, UNKNOWN, CONTROL, USER_DEFINED, UNUSED, BYTE };

class Vocabulary {
public:
  struct Join {
    int32_t left, right, joined;
  };
  StringTable pieces;         // value: id
  std::vector<double> scores; // by id, of Unigram and of spiece.model
  std::vector<uint8_t> types; // by id, of spiece.model
  std::vector<Join> merges;   // in the order of their ranks
  int32_t count = 0;          // one more than the highest id

  /** False for a piece that was there before, which then has the new id. */
  bool add(const uint8_t *p, size_t bytes, int32_t id) {
    const size_t before = pieces.size();
    pieces(p, uint32_t(bytes)) = uint64_t(uint32_t(id));
    if (id >= count) count = id + 1;
    return pieces.size() > before;
  }
  /** -1: none. */
  int32_t idOf(const uint8_t *p, size_t bytes) const {
    const uint64_t *id = pieces.find(p, uint32_t(bytes));
    return id ? int32_t(*id) : -1;
  }
  /** A merge of two pieces that stand side by side; false where one of the three is missing. */
  bool addMerge(const uint8_t *p, size_t left, size_t right) {
    const Join join{idOf(p, left), idOf(p + left, right), idOf(p, left + right)};
    merges.push_back(join);
    return join.left >= 0 && join.right >= 0 && join.joined >= 0;
  }
  bool isText(int32_t id) const { return types[size_t(id)] == NORMAL || types[size_t(id)] == USER_DEFINED; }
  /** Marks are at one end of pieces only: then no piece is part of two words. */
  bool staysInWords(bool markAtEnd) const;
  /** No mark follows text within a piece. */
  bool marksLead() const;
};

/**
 * model.vocab and model.merges of a tokenizer.json, which must be UTF-8. spans: their values' [start, end), 0 where there
 * is none. False for whatever is not plain and sound: TypeScript then reads the file, and says what is wrong.
 */
bool readTokenizerJson(const uint8_t *p, size_t bytes, Vocabulary &vocabulary, uint32_t spans[4]);

constexpr uint32_t MOST_SPANS = 32;
/** The same of a spiece.model's pieces; spans: [start, end) of all other fields. Returns the number of spans, or -1. */
int32_t readSentencePieceModel(const uint8_t *p, size_t bytes, Vocabulary &vocabulary, uint32_t spans[2 * MOST_SPANS]);

} // namespace tokenizer
