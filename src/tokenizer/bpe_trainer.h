// Learns BPE merges from counted words, in the order in which Hugging Face's BpeTrainer finds them: the most frequent
// pair first, of equals the one with the lowest ids (alphabet by code point, then merges by age).
#pragma once
#include "string_table.h"
#include <queue>

namespace tokenizer {

struct TrainerOptions {
  double characterCoverage;   // share of the text whose characters get into the alphabet, most frequent first
  uint32_t limitAlphabet;     // at most so many characters
  uint32_t room;              // pieces to learn, alphabet included
  uint64_t minFrequency;      // of a pair
  uint32_t maxTokenLength;    // characters in a piece
  std::vector<uint32_t> wanted; // code points that are in the alphabet in any case
};

class BpeTrainer {
public:
  /** Chooses the alphabet of the counted words and counts its pairs. */
  void prepare(StringTable &&words, const TrainerOptions &options);
  /** Learns up to `count` more merges; fewer: nothing is left to learn or no room. */
  uint32_t learn(uint32_t count);

  struct LearnedMerge {
    int32_t left, right;
  };
  std::vector<uint32_t> alphabet;    // code points, ascending; piece i < alphabet.size()
  std::vector<LearnedMerge> merges;  // of pieces
  uint64_t distinctCharacters = 0;
  size_t pieceCount() const { return lengths.size(); }

private:
  struct Pair {
    uint64_t key; // left << 32 | right
    int64_t count;
    uint32_t places; // latest chunk in `chunks`, 0: none
    bool learned;
  };
  struct Candidate {
    int64_t count;
    uint64_t key;
    bool operator<(const Candidate &o) const { return count != o.count ? count < o.count : key > o.key; }
  };
  struct Neighbours { // of the merged pair on one side
    struct Place {
      int32_t piece;
      uint32_t position;
    };
    std::vector<Place> places;
    std::vector<int32_t> pieces;  // that occur in places
    std::vector<int64_t> weight;  // by piece
    std::vector<uint32_t> count;  // by piece
  };

  TrainerOptions options{};
  std::vector<int32_t> text;        // pieces of all words, BARRIER between them; see replace()
  std::vector<uint32_t> weights;    // how often the word at this position occurs
  std::vector<uint32_t> lengths;    // characters of each piece
  StringTable spellings;            // entry i: piece i; value: i + 1
  std::vector<Pair> pairs;
  std::vector<uint32_t> slots;      // open addressing into pairs, +1
  std::vector<uint32_t> chunks{0};  // places of pairs: [chunk before, length, positions ascending…]
  std::priority_queue<Candidate> queue;
  std::vector<uint64_t> fresh; // pairs that the merge at hand creates
  Neighbours left, right;

  void layOut(const StringTable &words);
  void countPairs();
  uint32_t pairIndex(uint64_t key);
  uint32_t addChunk(uint64_t key, uint32_t length);
  std::vector<uint32_t> placesOf(uint32_t chunk) const;
  int32_t join(int32_t a, int32_t b);
  void replace(int32_t a, int32_t b, int32_t joined);
  template <class KeyOf> void settle(Neighbours &side, KeyOf keyOf, int32_t old, int32_t joined);
};

} // namespace tokenizer
