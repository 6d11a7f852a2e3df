// adafactor, CUDA. Contract, formula and source: adafactor.ts and table.ts in this folder. A block per chunk of rows, then
// blocks or warps per parameter.
#include "update.cuh"

namespace {

struct Hyper {
  float decay, oneMinusDecay, eps1, eps2, threshold, rate, maxNorm;
};

struct Place {
  int start, state, rows, columns, row, column, chunk;
};

struct Rows {
  int parameter, first, count, sums;
};

}  // namespace

// Moments of rows and of vectors' elements, and the chunks' column sums.
KERNEL adafactor_moments(const float *gradients, const Place *places, const Rows *chunks, const float *norm,
                         const Hyper *hyper, float *moments, float *factors, float *columnSums) {
  __shared__ float parts[THREADS];
  if (!isFinite(*norm)) return;
  const Hyper h = *hyper;
  const float clip = clipFactor(*norm, h.maxNorm);
  const Rows rows = chunks[blockIdx.x];
  const Place place = places[rows.parameter];
  const int columns = place.columns;
  const float *g = gradients + i64(place.start) * UNIT + i64(rows.first) * columns;
  float *moment = moments + place.row + rows.first;
  if (place.column < 0) {
    for (int r = threadIdx.x; r < rows.count; r += THREADS) {
      const float x = clip * g[r];
      moment[r] = h.decay * moment[r] + h.oneMinusDecay * (x * x + h.eps1);
      factors[place.row + rows.first + r] = 1 / sqrtf(moment[r]);
    }
    return;
  }
  // As many neighbouring lanes share a row as it has columns, rounded up to a power of two.
  int lanes = 1;
  while (lanes < columns && lanes < WARP) lanes *= 2;
  for (int r0 = 0; r0 < rows.count; r0 += THREADS / lanes) {
    const int r = r0 + threadIdx.x / lanes;
    float sum = 0;
    if (r < rows.count) {
#pragma unroll 8
      for (int k = threadIdx.x % lanes; k < columns; k += lanes) {
        const float x = clip * g[i64(r) * columns + k];
        sum += x * x;
      }
    }
    for (int apart = lanes / 2; apart > 0; apart /= 2) sum += __shfl_xor_sync(ALL_LANES, sum, apart);
    if (r < rows.count && threadIdx.x % lanes == 0)
      moment[r] = h.decay * moment[r] + h.oneMinusDecay * (sum / columns + h.eps1);
  }
  // Columns: a thread each, or several, each with some of the rows, where there are fewer columns than threads.
  const int groups = max(1, THREADS / columns), group = threadIdx.x / columns;
  for (int k0 = 0; k0 < columns; k0 += THREADS) {
    const int k = groups > 1 ? threadIdx.x % columns : k0 + threadIdx.x;
    float sum = 0;
    if (k < columns && group < groups) {
#pragma unroll 8
      for (int r = groups > 1 ? group : 0; r < rows.count; r += groups) {
        const float x = clip * g[i64(r) * columns + k];
        sum += x * x + h.eps1;
      }
    }
    if (groups == 1) {
      if (k < columns) columnSums[rows.sums + k] = sum;
      continue;
    }
    parts[threadIdx.x] = sum;
    __syncthreads();
    if (threadIdx.x >= columns) continue;
    for (int other = 1; other < groups; other++) sum += parts[threadIdx.x + other * columns];
    columnSums[rows.sums + k] = sum;
  }
}

// The column moments of a matrix from its chunks' sums, and its factors: block 0 of a parameter's does the rows.
KERNEL adafactor_factors(const Place *places, const Rows *chunks, const float *norm, const Hyper *hyper,
                         const float *columnSums, float *moments, float *factors, i64 C) {
  __shared__ float parts[THREADS / WARP][WARP];
  if (!isFinite(*norm)) return;
  const Hyper h = *hyper;
  const Place place = places[blockIdx.x];
  if (place.column < 0) return;
  if (blockIdx.y == 0) {
    double total = 0;
    for (int r = threadIdx.x; r < place.rows; r += THREADS) total += moments[place.row + r];
    const float mean = float(acrossBlock<Sum>(total) / place.rows);
    for (int r = threadIdx.x; r < place.rows; r += THREADS)
      factors[place.row + r] = sqrtf(mean / moments[place.row + r]);
    return;
  }
  const i64 end = firstOf(chunks, C, int(blockIdx.x) + 1, &Rows::parameter);
  const int warp = threadIdx.x / WARP, lane = threadIdx.x % WARP;
  for (int k0 = (blockIdx.y - 1) * WARP; k0 < place.columns; k0 += (gridDim.y - 1) * WARP) {
    const int k = k0 + lane;
    float sum = 0;
    if (k < place.columns)
      for (i64 c = place.chunk + warp; c < end; c += THREADS / WARP) sum += columnSums[chunks[c].sums + k];
    parts[warp][lane] = sum;
    __syncthreads();
    if (warp == 0 && k < place.columns) {
      for (int w = 1; w < THREADS / WARP; w++) sum += parts[w][lane];
      float &moment = moments[place.column + k];
      moment = h.decay * moment + h.oneMinusDecay * (sum / place.rows);
      factors[place.column + k] = 1 / sqrtf(moment);
    }
    __syncthreads();
  }
}

// The chunks' sums of U^2.
KERNEL adafactor_squares(const float *gradients, const Place *places, const Rows *chunks, const float *factors,
                         const float *norm, const Hyper *hyper, float *partial) {
  if (!isFinite(*norm)) return;
  const float clip = clipFactor(*norm, hyper->maxNorm);
  const Rows rows = chunks[blockIdx.x];
  const Place place = places[rows.parameter];
  const float *g = gradients + i64(place.start) * UNIT + i64(rows.first) * place.columns;
  const float *rowFactors = factors + place.row + rows.first, *columnFactors = factors + place.column;
  float sum = 0;
#pragma unroll 4
  for (i64 i = threadIdx.x; i < i64(rows.count) * place.columns; i += THREADS) {
    const unsigned r = unsigned(i) / unsigned(place.columns), k = unsigned(i) % unsigned(place.columns);
    const float u = clip * g[i] * rowFactors[r] * (place.column < 0 ? 1 : columnFactors[k]);
    sum += u * u;
  }
  sum = acrossBlock<Sum>(sum);
  if (threadIdx.x == 0) partial[blockIdx.x] = sum;
}

// A warp takes a parameter.
KERNEL adafactor_scale(const Rows *chunks, const int *lengths, const float *norms, const float *norm,
                       const Hyper *hyper, const float *partial, float *scale, i64 P, i64 C) {
  if (!isFinite(*norm)) return;
  const Hyper h = *hyper;
  const i64 p = (i64(blockIdx.x) * blockDim.x + threadIdx.x) / WARP;
  if (p >= P) return;
  const float rms = float(sqrt(sumPartials(partial, chunks, C, int(p), &Rows::parameter) / lengths[p]));
  if (threadIdx.x % WARP == 0)
    scale[p] = h.rate * parameterScale(norms[p], float(lengths[p]), h.eps2) / fmaxf(1, rms / h.threshold);
}

KERNEL adafactor(const float *gradients, const Place *places, const Rows *chunks, const float *factors,
                 const int *lengths, const float *decay, const float *norms, const float *norm, const Hyper *hyper,
                 const int *rng, T *values, T *compensation, float *master, const float *scale) {
  if (!isFinite(*norm)) return;
  const Hyper h = *hyper;
  const float clip = clipFactor(*norm, h.maxNorm);
  const Rows rows = chunks[blockIdx.x];
  const int p = rows.parameter;
  const Place place = places[p];
  const bool isVector = place.column < 0;
  const float lost = h.rate * parameterScale(norms[p], float(lengths[p]), h.eps2) * decay[p];
  const float step = -clip * scale[p];
  const float *rowFactors = factors + place.row + rows.first;
  const int lines = isVector ? 1 : rows.count, columns = isVector ? rows.count : place.columns;
  const i64 from = i64(rows.first) * place.columns;
  const float *g = gradients + i64(place.start) * UNIT + from;
  const i64 value = i64(place.start) * UNIT + from, state = i64(place.state) * UNIT + from;
  const float *columnFactors = isVector ? rowFactors : factors + place.column;
  const Target whole{values + value, at(compensation, state), at(master, state), rng, 0, value};
  withRounding(whole, [=](auto rounding) {
    constexpr Rounding R = decltype(rounding)::value;
    // Short rows go to warps, long ones to the block.
    const int lanes = columns > WARP * VECTOR ? THREADS : WARP;
    for (int r = threadIdx.x / lanes; r < lines; r += THREADS / lanes) {
      const i64 line = i64(r) * columns;
      const Target target{whole.values + line, at(whole.compensation, line), at(whole.master, line), rng, 0, value + line};
      const float factor = step * (isVector ? 1 : rowFactors[r]);
      const bool vectors = columns % VECTOR == 0 && aligned(g + line, columnFactors, target.values, target.compensation, target.master);
      forRow(columns, vectors, threadIdx.x % lanes, lanes, [=](i64 k, auto n) {
        float u[n.value], old[n.value], c[n.value];
        load(g + line + k, u);
        load(columnFactors + k, c);
        loadOld<R>(target, k, old);
        for (int j = 0; j < n.value; j++) u[j] = factor * u[j] * c[j] - lost * old[j];
        applyChange<R>(target, k, old, u);
      });
    }
  });
}
