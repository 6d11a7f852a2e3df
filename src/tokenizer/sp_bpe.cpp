#include "sp_bpe.h"
#include <algorithm>

namespace tokenizer {

void SpBpe::open(const std::vector<Piece> &pieces, int32_t ids) {
  firstFrozen = ids;
  firstCharacter = 2 * ids;
  bpe.pieces.reserve(pieces.size());
  for (const Piece &piece : pieces) bpe.addPiece(piece.start, piece.bytes, piece.id);
  std::vector<double> scores;
  scores.reserve(pieces.size());
  for (const Piece &piece : pieces) {
    scores.push_back(piece.score);
    for (const uint8_t *p = piece.start, *end = p + piece.bytes; p < end;) {
      const Character c = characterAt(p, end);
      if (c.codePoint != INVALID && bpe.characterId(c.codePoint) == NO_ID) {
        Character4 character{{}, c.bytes};
        memcpy(character.text, p, c.bytes);
        bpe.addPiece(p, c.bytes, firstCharacter + int32_t(characters.size()));
        characters.push_back(character);
      }
      p += c.bytes;
    }
  }
  std::sort(scores.begin(), scores.end(), std::greater<double>());
  scores.erase(std::unique(scores.begin(), scores.end()), scores.end());
  struct Cut {
    int32_t left, right;
    uint32_t rank;
    int32_t joined;
  };
  std::vector<Cut> cuts;
  cuts.reserve(4 * pieces.size());
  for (const Piece &piece : pieces) {
    const uint32_t rank = uint32_t(std::lower_bound(scores.begin(), scores.end(), piece.score, std::greater<double>()) - scores.begin());
    for (uint32_t left = 1; left < piece.bytes; left++) {
      if ((piece.start[left] & 0xc0) == 0x80) continue;
      const int32_t l = bpe.idOf(piece.start, left);
      if (l == NO_ID) continue;
      const int32_t r = bpe.idOf(piece.start + left, piece.bytes - left);
      if (r != NO_ID) cuts.push_back({l, r, rank, piece.id});
    }
  }
  bpe.reserveMerges(cuts.size());
  for (const Cut &cut : cuts) bpe.addMerge(cut.left, cut.right, cut.rank, cut.joined);
}

/** start: ids before are of other texts. */
void SpBpe::pushUnknown(const uint8_t *p, uint32_t bytes, size_t start, IdBuffer &ids) const {
  if (!byteIds.empty())
    for (uint32_t i = 0; i < bytes; i++) ids.push(byteIds[p[i]]);
  else if (ids.size() == start || ids[ids.size() - 1] != unknown) ids.push(unknown);
}

void SpBpe::encode(const uint8_t *p, const uint8_t *end, IdBuffer &ids, BpeScratch &scratch) const {
  scratch.symbols.clear();
  scratch.unknown.clear();
  while (p < end) {
    DoubleArray::Walk walk;
    uint32_t bytes = 0;
    int32_t symbol = NO_ID;
    if (!userSymbols.empty())
      for (const uint8_t *q = p; q < end && userSymbols.step(walk, *q);) {
        q++;
        if (userSymbols.value(walk) < 0) continue;
        bytes = uint32_t(q - p);
        symbol = firstFrozen + userSymbols.value(walk);
      }
    if (symbol == NO_ID) {
      const Character c = characterAt(p, end);
      bytes = c.bytes;
      symbol = bpe.characterId(c.codePoint);
      if (symbol == NO_ID) {
        symbol = -2 - int32_t(scratch.unknown.size()); // merges with nothing
        scratch.unknown.push_back({p, bytes});
      }
    }
    scratch.symbols.push_back(symbol);
    p += bytes;
  }
  int32_t *symbols = scratch.symbols.data();
  const int32_t *stop = bpe.merge(symbols, symbols + scratch.symbols.size(), scratch);
  const size_t start = ids.size();
  for (const int32_t *s = symbols; s < stop; s++) {
    if (*s < NO_ID) {
      const auto &text = scratch.unknown[size_t(-2 - *s)];
      pushUnknown(text.start, text.bytes, start, ids);
    } else if (*s >= firstCharacter) {
      const auto &character = characters[size_t(*s - firstCharacter)];
      pushUnknown(character.text, character.bytes, start, ids);
    } else {
      ids.push(*s >= firstFrozen ? *s - firstFrozen : *s);
    }
  }
}

} // namespace tokenizer
