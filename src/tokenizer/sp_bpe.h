// sentencepiece's BPE: what merges is said by the scores of the pieces; user-defined symbols stay whole.
#pragma once
#include "bpe.h"
#include "double_array.h"
#include "id_buffer.h"

namespace tokenizer {

class SpBpe {
public:
  struct Piece {
    const uint8_t *start;
    uint32_t bytes;
    int32_t id;
    double score;
  };
  DoubleArray userSymbols; // value: id
  int32_t unknown = 0;
  std::vector<int32_t> byteIds; // 256, or none

  /** Pieces that text can become; user-defined symbols among them. ids: of all pieces, those here included. */
  void open(const std::vector<Piece> &pieces, int32_t ids);
  /** Appends the ids of a text. */
  void encode(const uint8_t *p, const uint8_t *end, IdBuffer &ids, BpeScratch &scratch) const;

private:
  Bpe bpe;
  int32_t firstFrozen = 0;    // symbols from here on are user-defined pieces
  int32_t firstCharacter = 0; // symbols from here on are characters that are in pieces, but no pieces themselves
  struct Character4 {
    uint8_t text[4];
    uint32_t bytes;
  };
  std::vector<Character4> characters;
  void pushUnknown(const uint8_t *p, uint32_t bytes, size_t start, IdBuffer &ids) const;
};

} // namespace tokenizer
