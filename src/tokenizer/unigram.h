// The cut of a text into pieces with the greatest sum of log probabilities: pipeline/unigram.ts says which of equal
// sums is meant. sentencepiece adds in float32 along the sentence, tokenizers in float64 within a word.
#pragma once
#include "double_array.h"
#include "id_buffer.h"
#include "unicode.h"
#include <string>

namespace tokenizer {

struct UnigramScratch {
  struct Node {
    double score, second; // of the best and the second best way here
    uint32_t start;       // of the best way's last piece; NONE: no way yet
    int32_t id;
  };
  struct Run {
    uint32_t start, end;
    int32_t id;
  };
  std::vector<Node> nodes;
  std::vector<Run> runs; // the best cut, from the end to the start
};

/** Where a sum of sentencepiece's falls below this, it starts from zero again, and so do those of the other ways. */
constexpr float LEAST_SUM = -100000;

class Unigram {
public:
  DoubleArray pieces;         // value: id
  std::vector<double> scores; // by id
  int32_t unknown = 0;
  double unknownScore = 0;
  std::string unknownPiece;     // a text of this spelling is not cut into bytes
  std::vector<int32_t> byteIds; // 256, or none: unknown characters stay unknown
  bool float32 = false;

  /** The best cut of [p, end) into scratch.runs in float64; returns by how much it beats the next best. */
  double best(const uint8_t *p, const uint8_t *end, UnigramScratch &scratch) const;
  /** The same in sentencepiece's arithmetic, after a text whose sum is `total`, which moves on. */
  void bestFloat32(const uint8_t *p, const uint8_t *end, float &total, UnigramScratch &scratch) const;
  /** Appends the ids of the runs. Neighbouring unknown characters are one, or their bytes. */
  void write(const uint8_t *p, const UnigramScratch &scratch, IdBuffer &ids) const;
  /** Sum after a piece, as sentencepiece rounds it. */
  float add(float total, int32_t id) const {
    return float((id == unknown ? unknownScore : scores[size_t(id)]) + double(total));
  }
};

} // namespace tokenizer
