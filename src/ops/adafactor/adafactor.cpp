// adafactor, CPU. Contract, formula and source: adafactor.ts and table.ts in this folder.
#include "../update.h"

namespace {

struct Hyper {
  float decay, oneMinusDecay, eps1, eps2, threshold, rate, maxNorm;
};

struct Place {
  int32_t start, state, rows, columns, row, column, chunk;
};

struct Rows {
  int32_t parameter, first, count, sums;
};

Hyper read(const float *hyper) {
  Hyper h;
  memcpy(&h, hyper, sizeof h);
  return h;
}

/** A chunk's rows, or elements of a vector: where they are in parameters, and in factors and moments. */
struct Part {
  const Place &place;
  bool isVector;
  int64_t inside, element, row, count;  // inside: elements of the parameter before it
};

Part partOf(const Place *places, const Rows &rows) {
  const Place &place = places[rows.parameter];
  const int64_t inside = int64_t(rows.first) * place.columns;
  return {place, place.column < 0, inside, place.start * UNIT + inside, int64_t(place.row) + rows.first, rows.count};
}

/** sum_k (clip * g[k])^2 + eps, added to each columnSums[k] as well. */
float squareRow(const float *g, int64_t count, float clip, float eps, float *columnSums) {
  const float sum = vectorSum(count, [=](int64_t k, auto n) {
    const vec square = clip * clip * load(g + k, n) * load(g + k, n);
    store(columnSums + k, load(columnSums + k, n) + (square + eps), n);
    return square;
  });
  return sum + eps * count;
}

/** sum_k (g[k] * factor[k])^2. */
float squareUpdate(const float *g, const float *factor, int64_t count) {
  return vectorSum(count, [=](int64_t k, auto n) {
    const vec u = load(g + k, n) * load(factor + k, n);
    return u * u;
  });
}

/** The column moments of a matrix from its chunks' sums, and all its factors. */
void finishMatrix(const Place &place, const Rows *chunk, const Rows *end, int32_t p, const Hyper &h,
                  const float *columnSums, float *moments, float *factors) {
  double total = 0;
  for (int64_t r = place.row; r < place.row + place.rows; r++) total += moments[r];
  const float mean = float(total / place.rows);
  for (int64_t r = place.row; r < place.row + place.rows; r++) factors[r] = sqrtf(mean / moments[r]);
  float *sum = factors + place.column;  // summed where the factors will be
  for (int64_t k = 0; k < place.columns; k++) sum[k] = 0;
  for (; chunk < end && chunk->parameter == p; chunk++)
    for (int64_t k = 0; k < place.columns; k++) sum[k] += columnSums[chunk->sums + k];
  float *moment = moments + place.column;
  for (int64_t k = 0; k < place.columns; k++) {
    moment[k] = h.decay * moment[k] + h.oneMinusDecay * (sum[k] / place.rows);
    sum[k] = 1 / sqrtf(moment[k]);
  }
}

}  // namespace

KERNEL(adafactor_moments)(const float *gradients, const int32_t *places, const int32_t *chunks, const float *norm,
                          const float *hyper, float *moments, float *factors, float *columnSums, int64_t, int64_t P,
                          int64_t C, int64_t, int64_t) {
  if (!std::isfinite(*norm)) return OK;
  const Hyper h = read(hyper);
  const float clip = clipFactor(*norm, h.maxNorm);
  const Place *placeOf = reinterpret_cast<const Place *>(places);
  const Rows *table = reinterpret_cast<const Rows *>(chunks);
  parallelFor(C, 1, [=](int64_t begin, int64_t end) {
    for (int64_t c = begin; c < end; c++) {
      const auto [place, isVector, inside, element, row, count] = partOf(placeOf, table[c]);
      const float *g = gradients + element;
      float *moment = moments + row;
      if (isVector) {
        float *factor = factors + row;
        for (int64_t r = 0; r < count; r++) {
          moment[r] = h.decay * moment[r] + h.oneMinusDecay * (clip * g[r] * (clip * g[r]) + h.eps1);
          factor[r] = 1 / sqrtf(moment[r]);
        }
        continue;
      }
      float *sums = columnSums + table[c].sums;
      for (int64_t k = 0; k < place.columns; k++) sums[k] = 0;
      for (int64_t r = 0; r < count; r++, g += place.columns)
        moment[r] =
            h.decay * moment[r] + h.oneMinusDecay * (squareRow(g, place.columns, clip, h.eps1, sums) / place.columns);
    }
  });
  parallelFor(P, 1, [=](int64_t begin, int64_t end) {
    for (int64_t p = begin; p < end; p++)
      if (placeOf[p].column >= 0)
        finishMatrix(placeOf[p], table + placeOf[p].chunk, table + C, int32_t(p), h, columnSums, moments, factors);
  });
  return OK;
}

KERNEL(adafactor)(const float *gradients, const int32_t *places, const int32_t *chunks, const float *factors,
                  const int32_t *lengths, const float *decay, const float *norms, const float *norm,
                  const float *hyper, const int32_t *rng, T *values, T *compensation, float *master,
                  float *partial, float *scale, int64_t, int64_t P,
                  int64_t C, int64_t, int64_t) {
  if (!std::isfinite(*norm)) return OK;
  const Hyper h = read(hyper);
  const float clip = clipFactor(*norm, h.maxNorm);
  const Place *placeOf = reinterpret_cast<const Place *>(places);
  const Rows *table = reinterpret_cast<const Rows *>(chunks);
  parallelFor(C, 1, [=](int64_t begin, int64_t end) {
    for (int64_t c = begin; c < end; c++) {
      const auto [place, isVector, inside, element, row, count] = partOf(placeOf, table[c]);
      const float *g = gradients + element, *factor = factors + row;
      if (isVector) {
        partial[c] = clip * clip * squareUpdate(g, factor, count);
        continue;
      }
      float sum = 0;
      for (int64_t r = 0; r < count; r++, g += place.columns)
        sum += factor[r] * factor[r] * squareUpdate(g, factors + place.column, place.columns);
      partial[c] = clip * clip * sum;
    }
  });
  for (int64_t p = 0, c = 0; p < P; p++) {
    double sum = 0;
    for (; c < C && table[c].parameter == p; c++) sum += partial[c];
    const float rms = float(sqrt(sum / lengths[p]));
    scale[p] = h.rate * parameterScale(norms[p], float(lengths[p]), h.eps2) / std::max(1.f, rms / h.threshold);
  }
  withRounding(compensation, rng, master, [=](auto rounding) {
    parallelFor(C, 1, [=](int64_t begin, int64_t end) {
      for (int64_t c = begin; c < end; c++) {
        const auto [place, isVector, inside, element, row, count] = partOf(placeOf, table[c]);
        const int32_t p = table[c].parameter;
        const float lost = h.rate * parameterScale(norms[p], float(lengths[p]), h.eps2) * decay[p];
        const float *rowFactors = factors + row;
        const int64_t lines = isVector ? 1 : count, n = isVector ? count : place.columns;
        for (int64_t r = 0; r < lines; r++) {
          const int64_t i = element + r * n, s = place.state * UNIT + inside + r * n;
          const float step = -clip * scale[p] * (isVector ? 1 : rowFactors[r]);
          const float *g = gradients + i, *factor = isVector ? rowFactors : factors + place.column;
          applyChanges<rounding.value>(n, {values + i, at(compensation, s), at(master, s), rng, 0, i}, [=](int64_t k, auto part, vec old) {
            return step * load(g + k, part) * load(factor + k, part) - lost * old;
          });
        }
      }
    });
  });
  return OK;
}
