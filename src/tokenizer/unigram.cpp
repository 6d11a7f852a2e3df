#include "unigram.h"
#include <algorithm>
#include <cstring>
#include <limits>

namespace tokenizer {

namespace {

constexpr uint32_t NONE = 0xffffffff;
constexpr double LEAST = -std::numeric_limits<double>::infinity();

void prepare(size_t size, UnigramScratch &s) {
  s.nodes.assign(size + 1, {LEAST, LEAST, NONE, 0});
  s.nodes[0].score = 0;
  s.runs.clear();
}

void trace(uint32_t size, UnigramScratch &s) {
  for (uint32_t end = size; end > 0;) {
    const auto &node = s.nodes[end];
    s.runs.push_back({node.start, end, node.id});
    end = node.start;
  }
}

/** Calls piece(end, id) for the pieces at each character that a way leads to, unknown(end) where none is one character long. */
template <class OnStart, class OnPiece, class OnUnknown>
void walk(const DoubleArray &pieces, const uint8_t *p, const uint8_t *end, OnStart start, OnPiece piece, OnUnknown unknown) {
  for (const uint8_t *at = p; at < end;) {
    const uint32_t width = characterAt(at, end).bytes;
    start(uint32_t(at - p));
    bool single = false;
    DoubleArray::Walk state;
    for (const uint8_t *q = at; q < end && pieces.step(state, *q);) {
      q++;
      const int32_t id = pieces.value(state);
      if (id < 0) continue;
      piece(uint32_t(q - p), id);
      if (q == at + width) single = true;
    }
    at += width;
    if (!single) unknown(uint32_t(at - p));
  }
}

} // namespace

double Unigram::best(const uint8_t *p, const uint8_t *end, UnigramScratch &s) const {
  const uint32_t size = uint32_t(end - p);
  prepare(size, s);
  uint32_t from = 0;
  double here = 0;
  const auto offer = [&](uint32_t to, int32_t id, double score) {
    auto &node = s.nodes[to];
    const double sum = score + here;
    if (node.start == NONE || sum > node.score) {
      node.second = node.score;
      node.score = sum;
      node.start = from;
      node.id = id;
    } else if (sum > node.second) {
      node.second = sum;
    }
  };
  walk(
      pieces, p, end,
      [&](uint32_t at) {
        from = at;
        here = s.nodes[at].score;
      },
      [&](uint32_t to, int32_t id) { offer(to, id, scores[size_t(id)]); },
      [&](uint32_t to) { offer(to, unknown, unknownScore); });
  trace(size, s);
  double gap = std::numeric_limits<double>::infinity();
  for (const auto &run : s.runs) gap = std::min(gap, s.nodes[run.end].score - s.nodes[run.end].second);
  return gap;
}

void Unigram::bestFloat32(const uint8_t *p, const uint8_t *end, float &total, UnigramScratch &s) const {
  const uint32_t size = uint32_t(end - p);
  prepare(size, s);
  s.nodes[0].score = total;
  uint32_t from = 0, reached = 0;
  float here = total;
  const auto offer = [&](uint32_t to, int32_t id) {
    auto &node = s.nodes[to];
    const float sum = add(here, id);
    if (node.start == NONE || sum > node.score) {
      node.score = sum;
      node.start = from;
      node.id = id;
    }
    reached = std::max(reached, to);
  };
  walk(
      pieces, p, end,
      [&](uint32_t at) {
        from = at;
        here = float(s.nodes[at].score);
        if (here >= LEAST_SUM) return;
        for (uint32_t i = at; i <= reached; i++) s.nodes[i].score = float(s.nodes[i].score - here);
        here = 0;
      },
      [&](uint32_t to, int32_t id) { offer(to, id); }, [&](uint32_t to) { offer(to, unknown); });
  trace(size, s);
  total = float(s.nodes[size].score);
}

void Unigram::write(const uint8_t *p, const UnigramScratch &s, IdBuffer &ids) const {
  for (size_t i = s.runs.size(); i-- > 0;) {
    const auto &run = s.runs[i];
    if (run.id != unknown) {
      ids.push(run.id);
      continue;
    }
    uint32_t end = run.end;
    for (; i > 0 && s.runs[i - 1].id == unknown; i--) end = s.runs[i - 1].end;
    const bool named = end - run.start == unknownPiece.size() && memcmp(p + run.start, unknownPiece.data(), end - run.start) == 0;
    if (byteIds.empty() || named) ids.push(unknown);
    else
      for (uint32_t at = run.start; at < end; at++) ids.push(byteIds[p[at]]);
  }
}

} // namespace tokenizer
