// fire_bias, CPU. Contract, formulas and source: fire_bias.ts in this folder.
#include <algorithm>
#include <vector>
#include "kernel.h"

namespace {

constexpr float EPSILON = 1e-6f;
constexpr int64_t ROWS = 4;        // query rows of one chunk
constexpr int64_t KEYS = 4 * W;    // keys of one tile: the inner loops run over them

struct Fire {
  const T *hidden, *hiddenBias, *output, *outputBias;
  float c, multiplier, L;
  int64_t F, H;

  float reach() const { return fabsf(multiplier) * L; }
};

/** z of `count` keys for a query at i; the rest of the tile is 0. */
void distances(const Fire &fire, int32_t i, const int32_t *keys, int64_t count, float denominator, float *z) {
  for (int64_t n = 0; n < KEYS; n++) {
    const float d = n < count ? float(i - keys[n]) : 0;
    const float numerator = log1pf(fabsf(fire.c * d));
    z[n] = (d < 0 ? -numerator : numerator) / denominator;
  }
}

float denominatorAt(const Fire &fire, int32_t i) {
  return log1pf(fabsf(fire.c) * std::max(float(i), fire.reach())) + EPSILON;
}

/** Gradients of one chunk, laid out as hidden, hiddenBias, output, outputBias, c, multiplier. */
int64_t gradientsOf(int64_t F, int64_t H) { return 2 * F + H * F + H + 2; }

}  // namespace

KERNEL(fire_bias_forward)(const int32_t *queryPositions, const int32_t *keyPositions, const T *hidden,
                          const T *hiddenBias, const T *output, const T *outputBias, const T *c, const T *multiplier,
                          float *bias, int64_t E, int64_t M, int64_t N, int64_t F, int64_t H, float L) {
  const Fire fire{hidden, hiddenBias, output, outputBias, float(c[0]), float(multiplier[0]), L, F, H};
  parallelFor(E * M, ROWS, [&](int64_t begin, int64_t end) {
    std::vector<float> active(F * KEYS);
    for (int64_t row = begin; row < end; row++) {
      const int64_t e = row / M, m = row % M;
      const int32_t i = queryPositions[row];
      const float denominator = denominatorAt(fire, i);
      for (int64_t n0 = 0; n0 < N; n0 += KEYS) {
        const int64_t count = std::min(KEYS, N - n0);
        float z[KEYS];
        distances(fire, i, keyPositions + e * N + n0, count, denominator, z);
        for (int64_t f = 0; f < F; f++) {
          const float w = float(hidden[f]), b = float(hiddenBias[f]);
          for (int64_t n = 0; n < KEYS; n++) active[f * KEYS + n] = std::max(0.f, w * z[n] + b);
        }
        for (int64_t h = 0; h < H; h++) {
          float sum[KEYS];
          for (int64_t n = 0; n < KEYS; n++) sum[n] = float(outputBias[h]);
          for (int64_t f = 0; f < F; f++) {
            const float w = float(output[h * F + f]);
            for (int64_t n = 0; n < KEYS; n++) sum[n] += w * active[f * KEYS + n];
          }
          float *to = bias + ((e * H + h) * M + m) * N + n0;
          for (int64_t n = 0; n < count; n++) to[n] = sum[n];
        }
      }
    }
  });
  return OK;
}

KERNEL(fire_bias_backward)(const float *dbias, const int32_t *queryPositions, const int32_t *keyPositions,
                           const T *hidden, const T *hiddenBias, const T *output, const T *outputBias, const T *c,
                           const T *multiplier, float *dhidden, float *dhiddenBias, float *doutput,
                           float *doutputBias, float *dc, float *dmultiplier, int64_t E, int64_t H, int64_t M,
                           int64_t N, int64_t F, float L) {
  const Fire fire{hidden, hiddenBias, output, outputBias, float(c[0]), float(multiplier[0]), L, F, H};
  const int64_t size = gradientsOf(F, H), chunks = (E * M + ROWS - 1) / ROWS;
  std::vector<float> partial(chunks * size, 0.f);  // one set of gradients per chunk, added in order below
  const float absC = fabsf(fire.c), signC = fire.c < 0 ? -1.f : fire.c > 0 ? 1.f : 0.f;
  const float signM = fire.multiplier < 0 ? -1.f : fire.multiplier > 0 ? 1.f : 0.f;
  parallelFor(E * M, ROWS, [&](int64_t begin, int64_t end) {
    float *gradient = partial.data() + begin / ROWS * size;
    float *gHidden = gradient, *gHiddenBias = gHidden + F, *gOutput = gHiddenBias + F, *gOutputBias = gOutput + H * F;
    float *gC = gOutputBias + H, *gMultiplier = gC + 1;
    std::vector<float> dy(H * KEYS);
    for (int64_t row = begin; row < end; row++) {
      const int64_t e = row / M, m = row % M;
      const int32_t i = queryPositions[row];
      const float denominator = denominatorAt(fire, i), t = std::max(float(i), fire.reach());
      for (int64_t n0 = 0; n0 < N; n0 += KEYS) {
        const int64_t count = std::min(KEYS, N - n0);
        const int32_t *keys = keyPositions + e * N + n0;
        float z[KEYS], dz[KEYS] = {};
        distances(fire, i, keys, count, denominator, z);
        for (int64_t h = 0; h < H; h++) {
          const float *from = dbias + ((e * H + h) * M + m) * N + n0;
          float sum = 0;
          for (int64_t n = 0; n < KEYS; n++) sum += dy[h * KEYS + n] = n < count ? from[n] : 0;
          gOutputBias[h] += sum;
        }
        for (int64_t f = 0; f < F; f++) {
          const float w = float(hidden[f]), b = float(hiddenBias[f]);
          float active[KEYS], dactive[KEYS] = {};
          for (int64_t n = 0; n < KEYS; n++) active[n] = std::max(0.f, w * z[n] + b);
          for (int64_t h = 0; h < H; h++) {
            const float v = float(output[h * F + f]), *dyh = dy.data() + h * KEYS;
            float sums[W] = {};
            for (int64_t n = 0; n < KEYS; n += W)
              for (int l = 0; l < W; l++) {
                sums[l] += dyh[n + l] * active[n + l];
                dactive[n + l] += dyh[n + l] * v;
              }
            for (int l = 0; l < W; l++) gOutput[h * F + f] += sums[l];
          }
          for (int64_t n = 0; n < KEYS; n++) {
            const float d = active[n] > 0 ? dactive[n] : 0;
            gHidden[f] += d * z[n];
            gHiddenBias[f] += d;
            dz[n] += d * w;
          }
        }
        for (int64_t n = 0; n < count; n++) {
          const float d = float(i - keys[n]), dnumerator = dz[n] / denominator, ddenominator = -dnumerator * z[n];
          *gC += dnumerator * d * signC / (1 + fabsf(fire.c * d)) + ddenominator * t * signC / (1 + absC * t);
          if (fire.reach() > float(i)) *gMultiplier += ddenominator * absC * L * signM / (1 + absC * t);
        }
      }
    }
  });
  std::vector<double> total(size, 0.);
  for (int64_t chunk = 0; chunk < chunks; chunk++)
    for (int64_t s = 0; s < size; s++) total[s] += partial[chunk * size + s];
  const double *from = total.data();
  for (auto [to, count] : {std::pair<float *, int64_t>{dhidden, F}, {dhiddenBias, F}, {doutput, H * F},
                           {doutputBias, H}, {dc, 1}, {dmultiplier, 1}})
    for (int64_t s = 0; s < count; s++) to[s] = float(*from++);
  return OK;
}
