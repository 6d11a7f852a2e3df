// Learns the pieces of a Unigram language model and their log probabilities from counted fragments of text.
//
//   seeds    the substrings of the fragments that can be told apart by what follows them, most text covered first
//   round    a few times: expected counts of every piece over all segmentations (forward-backward), then digamma of
//            them for log probabilities; then the pieces whose loss changes the likelihood least are dropped
//   end      room is reached; every character of the alphabet is a piece
//
// Source: Kudo 2018, "Subword Regularization", section 3.2; constants as in sentencepiece's unigram_model_trainer.
// Counts are sums of whole numbers, so that the result does not depend on the number of threads.
#pragma once
#include "string_table.h"
#include <cstdint>
#include <vector>

namespace tokenizer {

struct UnigramOptions {
  double characterCoverage;  // share of the text whose characters get into the alphabet, most frequent first
  uint32_t limitAlphabet;    // at most so many characters
  uint32_t room;             // pieces to learn, alphabet included
  uint32_t target;           // rounds end at this many pieces; the likeliest of them fill the room
  uint64_t minFrequency;     // of a seed
  uint32_t maxPieceLength;   // characters in a piece
  uint32_t seedSize;         // seeds, alphabet included
  double shrinkingFactor;    // share of the pieces that a round keeps
  uint32_t subIterations;    // of expectation and maximisation in a round
  int32_t threads;
};

class UnigramTrainer {
public:
  /** Takes words and how often each occurs; pieces do not reach across them. */
  void prepare(StringTable &&words, const UnigramOptions &options);
  /** One round; false: it was the last, and pieces are ready. */
  bool round();

  struct LearnedPiece {
    std::vector<uint32_t> characters; // code points
    double score;                     // log probability
  };
  std::vector<LearnedPiece> pieces; // likeliest first
  uint64_t distinctCharacters = 0;
  size_t alphabetSize() const { return alphabet.size(); }
  /** Pieces at this time. */
  size_t pieceCount() const { return live; }

private:
  struct Fragment {
    uint32_t start, end; // in text
    uint64_t weight;
  };
  struct Candidate {
    uint32_t first, last; // in the suffix array: it occurs at suffixes[first … last)
    uint32_t length;
    uint64_t frequency;
  };
  struct Piece {
    uint32_t start, length; // where it occurs in text
    double score;
    bool alive; // false only for characters: in place of one stands the penalty of the unknown
  };
  struct Weight { // of a piece: probability or its logarithm, as the pass needs it
    double value;
    uint32_t length;
  };
  struct Lattice { // a thread's work on one fragment
    std::vector<double> forward, backward;
    std::vector<int32_t> shift;
    std::vector<uint32_t> best;
    std::vector<int64_t> counts;
  };

  UnigramOptions options{};
  std::vector<uint32_t> alphabet; // code points; character i is piece i
  std::vector<uint32_t> text;     // characters of all fragments
  std::vector<uint32_t> rest;     // characters up to the fragment's end
  std::vector<Fragment> fragments;
  std::vector<Piece> vocabulary; // characters first
  std::vector<uint64_t> frequency;         // of characters
  std::vector<uint64_t> edgeStart;         // pieces of two and more characters that start at a place of text:
  std::vector<uint32_t> edges;             // edges[edgeStart[i] … edgeStart[i + 1])
  std::vector<Weight> weights;
  size_t live = 0;

  void layOut(const StringTable &words);
  std::vector<uint32_t> sortSuffixes() const;
  std::vector<Candidate> findSeeds(const std::vector<uint32_t> &suffixes) const;
  void makeEdges(const std::vector<uint32_t> &suffixes, std::vector<Candidate> &seeds);
  void keepPieces(const std::vector<uint8_t> &keep);
  void setWeights(bool logarithms);
  template <class OnFragment> std::vector<int64_t> overFragments(OnFragment body);
  void expect(const Fragment &fragment, Lattice &lattice) const;
  void segment(const Fragment &fragment, Lattice &lattice) const;
  void maximise(const std::vector<int64_t> &expected);
  void prune();
  double lossWithout(uint32_t piece, const std::vector<int64_t> &counts, double total, Lattice &lattice) const;
  void finish();
  double unknownScore() const;
};

} // namespace tokenizer
