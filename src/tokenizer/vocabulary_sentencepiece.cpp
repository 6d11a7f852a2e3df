// The pieces of a spiece.model, in one pass over its bytes: protobuf.ts has the wire format, sentencepiece_model.ts the fields.
#include "vocabulary.h"
#include <cmath>
#include <exception>

namespace tokenizer {

namespace {

struct Declined : std::exception {};

constexpr uint32_t VARINT = 0, FIXED64 = 1, BYTES = 2, FIXED32 = 5;
constexpr size_t PIECE_LIMIT = 1 << 22;

struct Fields {
  const uint8_t *p, *end;
  uint32_t field = 0, wire = 0;

  bool next() {
    if (p == end) return false;
    const uint64_t tag = varint();
    if (tag < 8 || tag >> 3 >= 1u << 29) throw Declined();
    field = uint32_t(tag >> 3);
    wire = uint32_t(tag & 7);
    return true;
  }
  uint64_t varint() {
    uint64_t value = 0;
    for (uint32_t shift = 0; shift < 63; shift += 7) {
      const uint8_t byte = *take(1);
      value |= uint64_t(byte & 127) << shift;
      if (byte < 128) return value;
    }
    throw Declined(); // negative, or too long
  }
  const uint8_t *take(uint64_t bytes) {
    if (bytes > uint64_t(end - p)) throw Declined();
    p += bytes;
    return p - bytes;
  }
  Fields inside() {
    if (wire != BYTES) throw Declined();
    const uint64_t bytes = varint();
    const uint8_t *from = take(bytes);
    return {from, from + bytes};
  }
  void skip() {
    if (wire == VARINT) varint();
    else if (wire == FIXED64) take(8);
    else if (wire == BYTES) take(varint());
    else if (wire == FIXED32) take(4);
    else throw Declined();
  }
};

bool isUtf8(const uint8_t *p, const uint8_t *end) {
  while (p < end) {
    const Character c = characterAt(p, end);
    if (c.codePoint == INVALID) return false;
    p += c.bytes;
  }
  return true;
}

/** <0x00> to <0xFF>. */
bool isByteName(const uint8_t *p, size_t bytes) {
  const auto digit = [](uint8_t c) { return (c >= '0' && c <= '9') || (c >= 'A' && c <= 'F'); };
  return bytes == 6 && memcmp(p, "<0x", 3) == 0 && digit(p[3]) && digit(p[4]) && p[5] == '>';
}

void readPiece(Fields message, Vocabulary &vocabulary) {
  Fields piece{nullptr, nullptr};
  float score = 0;
  uint64_t type = NORMAL;
  while (message.next()) {
    if (message.field == 1) piece = message.inside();
    else if (message.field == 2 && message.wire == FIXED32) memcpy(&score, message.take(4), 4);
    else if (message.field == 3 && message.wire == VARINT) type = message.varint();
    else if (message.field <= 3) throw Declined();
    else message.skip();
  }
  const size_t bytes = size_t(piece.end - piece.p), id = vocabulary.types.size();
  if (bytes == 0 || !std::isfinite(score) || type < NORMAL || type > BYTE || id >= PIECE_LIMIT) throw Declined();
  if (type == BYTE ? !isByteName(piece.p, bytes) : !isUtf8(piece.p, piece.end)) throw Declined();
  if (!vocabulary.add(piece.p, bytes, int32_t(id))) throw Declined();
  vocabulary.scores.push_back(double(score));
  vocabulary.types.push_back(uint8_t(type));
}

} // namespace

int32_t readSentencePieceModel(const uint8_t *p, size_t bytes, Vocabulary &vocabulary, uint32_t spans[2 * MOST_SPANS]) {
  vocabulary.pieces.reserve(bytes / 24);
  uint32_t count = 0;
  try {
    Fields fields{p, p + bytes};
    for (const uint8_t *start = p; fields.next(); start = fields.p) {
      if (fields.field == 1) {
        readPiece(fields.inside(), vocabulary);
        continue;
      }
      fields.skip();
      const uint32_t from = uint32_t(start - p), to = uint32_t(fields.p - p);
      if (count > 0 && spans[2 * count - 1] == from) {
        spans[2 * count - 1] = to;
        continue;
      }
      if (count == MOST_SPANS) return -1;
      spans[2 * count] = from;
      spans[2 * count + 1] = to;
      count++;
    }
  } catch (const Declined &) {
    return -1;
  }
  size_t unknown = 0;
  for (const uint8_t type : vocabulary.types) unknown += type == UNKNOWN;
  return unknown == 1 ? int32_t(count) : -1;
}

} // namespace tokenizer
