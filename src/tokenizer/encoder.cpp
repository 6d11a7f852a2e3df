#include "encoder.h"
#include "threads.h"
#include <algorithm>
#include <atomic>

namespace tokenizer {

/** limit: end of the text, up to where reading is allowed. */
int32_t *Encoder::encodePiece(const uint8_t *p, const uint8_t *end, const uint8_t *limit, int32_t *out,
                              ThreadState &state) const {
  const size_t bytes = size_t(end - p);
  if (bytes > PieceCache::KEY) return bpe.encode(p, end, out, state.scratch);
  uint64_t key[4] = {};
  if (limit - p >= 32) { // whole words, then zeros behind the piece
    memcpy(key, p, 32);
    const size_t word = bytes / 8;
    key[word] &= (uint64_t(1) << bytes % 8 * 8) - 1;
    for (size_t i = word + 1; i < 4; i++) key[i] = 0;
  } else {
    memcpy(key, p, bytes);
  }
  const uint64_t hash = mix(mix(key[0] ^ bytes, key[1]), mix(key[2], key[3]));
  auto &entries = state.cache.entries;
  PieceCache::Entry &e = entries[hash & (entries.size() - 1)];
  if (e.bytes == bytes && memcmp(e.key, key, PieceCache::KEY) == 0) {
    for (int i = 0; i < e.count; i++) out[i] = e.ids[i];
    return out + e.count;
  }
  int32_t *stop = bpe.encode(p, end, out, state.scratch);
  const size_t count = size_t(stop - out);
  if (count <= PieceCache::IDS) {
    e.bytes = uint8_t(bytes);
    e.count = uint8_t(count);
    memcpy(e.key, key, PieceCache::KEY);
    std::copy(out, stop, e.ids);
  }
  return stop;
}

int32_t *Encoder::encodePlain(const uint8_t *p, const uint8_t *end, int32_t *out, ThreadState &state) const {
  while (p < end) {
    const uint8_t *stop = preTokenizer.pieceEnd(p, end);
    out = encodePiece(p, stop, end, out, state);
    p = stop;
  }
  return out;
}

/** Calls token(id) for the matches of `tokens` and text(p, end) for what lies between them. */
template <class OnText, class OnToken>
static void cut(const AddedTokens &tokens, const uint8_t *p, const uint8_t *end, bool skipSpecial, OnText text,
                OnToken token) {
  while (p < end) {
    const AddedTokens::Match m = tokens.find(p, end, skipSpecial);
    if (!m.start) return text(p, end);
    if (m.start > p) text(p, m.start);
    token(m.id);
    p = m.end;
  }
}

int32_t *Encoder::encode(const uint8_t *p, const uint8_t *end, EncodeFlags flags, int32_t *out,
                         ThreadState &state) const {
  const bool skip = flags.splitSpecialTokens;
  const auto token = [&](int32_t id) { *out++ = id; };
  if (flags.addSpecialTokens) out = std::copy(prefix.begin(), prefix.end(), out);
  cut(
      beforeNormalizer, p, end, skip,
      [&](const uint8_t *from, const uint8_t *to) {
        cut(
            afterNormalizer, from, to, skip,
            [&](const uint8_t *a, const uint8_t *b) { out = encodePlain(a, b, out, state); }, token);
      },
      token);
  if (flags.addSpecialTokens) out = std::copy(suffix.begin(), suffix.end(), out);
  return out;
}

int64_t Encoder::encodeBatch(const uint8_t *bytes, const uint32_t *offsets, uint32_t count, EncodeFlags flags,
                             int threads, int32_t *ids, uint32_t *idOffsets) {
  const uint32_t block = std::max(1u, std::min(64u, count / uint32_t(threads * 8)));
  threads = int(std::min<uint32_t>(uint32_t(threads), (count + block - 1) / block));
  while (int(states.size()) < threads) states.emplace_back(new ThreadState);
  // Each text writes where it would start if all before it needed their bound; then the gaps are closed.
  const auto place = [&](uint32_t i) { return ids + (offsets[i] - offsets[0]) + i * bound(0); };
  std::atomic<uint64_t> next{0};
  inThreads(threads, [&](int thread) {
    for (uint64_t start; (start = next.fetch_add(block)) < count;)
      for (uint32_t i = uint32_t(start); i < std::min<uint64_t>(count, start + block); i++) {
        int32_t *stop = encode(bytes + offsets[i], bytes + offsets[i + 1], flags, place(i), *states[thread]);
        idOffsets[i + 1] = uint32_t(stop - place(i));
      }
  });
  int64_t total = 0;
  idOffsets[0] = 0;
  for (uint32_t i = 0; i < count; i++) {
    const uint32_t length = idOffsets[i + 1];
    memmove(ids + total, place(i), length * sizeof(int32_t));
    total += length;
    idOffsets[i + 1] = uint32_t(total);
  }
  return total;
}

} // namespace tokenizer
