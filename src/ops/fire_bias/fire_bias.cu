// fire_bias, CUDA. Contract, formulas and source: fire_bias.ts in this folder. F is a compile-time constant.
#include "column_sum.cuh"

namespace {

constexpr float EPSILON = 1e-6f;
constexpr int STRIDE = KEYS + 1;  // of rows of KEYS in shared memory, so that a column lies in different banks

/** The normalised distance of query i and key j, and what its gradients need. */
struct Distance {
  float d, t, z, denominator;
};
DEVICE Distance distance(int i, int j, float c, float reach) {
  const float d = float(i - j), t = fmaxf(float(i), reach);
  const float numerator = copysignf(log1pf(fabsf(c * d)), d), denominator = log1pf(fabsf(c) * t) + EPSILON;
  return {d, t, numerator / denominator, denominator};
}
DEVICE float signOf(float x) { return x < 0 ? -1 : x > 0 ? 1 : 0; }

}  // namespace

// A thread takes a query and a key.
KERNEL fire_bias_forward(const int *queryPositions, const int *keyPositions, const T *hidden, const T *hiddenBias,
                         const T *output, const T *outputBias, const T *c, const T *multiplier, float *bias, i64 E,
                         i64 M, i64 N, i64, i64 H, float L) {
  const i64 i = i64(blockIdx.x) * blockDim.x + threadIdx.x;
  if (i >= E * M * N) return;
  const i64 row = i / N, n = i % N, e = row / M, m = row % M;
  const float z = distance(queryPositions[row], keyPositions[e * N + n], float(*c), fabsf(float(*multiplier)) * L).z;
  float active[FEATURES];
#pragma unroll
  for (int f = 0; f < FEATURES; f++) active[f] = fmaxf(0, float(hidden[f]) * z + float(hiddenBias[f]));
  for (i64 h = 0; h < H; h++) {
    float sum = float(outputBias[h]);
#pragma unroll
    for (int f = 0; f < FEATURES; f++) sum += float(output[h * FEATURES + f]) * active[f];
    bias[((e * H + h) * M + m) * N + n] = sum;
  }
}

// A block goes through tiles of KEYS positions with a stride; each gradient belongs to one thread. Its sums go to its row of
// parts [gridDim.x, 2 F + H F + H + 2]: hidden, hiddenBias, output, outputBias, c, multiplier.
KERNEL fire_bias_backward(const float *dbias, const int *queryPositions, const int *keyPositions, const T *hidden,
                          const T *hiddenBias, const T *output, const T *c, const T *multiplier, float *parts, i64 E,
                          i64 H, i64 M, i64 N, float L) {
  extern __shared__ float shared[];
  const int size = int(2 * FEATURES + H * FEATURES + H + 2), outputAt = 2 * FEATURES, outputBiasAt = outputAt + H * FEATURES;
  float *const gradient = shared, *const dy = gradient + size;                       // dy [H, KEYS]
  float *const active = dy + H * STRIDE, *const dactive = active + FEATURES * STRIDE;  // [F, KEYS] each
  float *const z = dactive + FEATURES * STRIDE;
  for (int s = threadIdx.x; s < size; s += blockDim.x) gradient[s] = 0;
  const float scale = float(*c), reach = fabsf(float(*multiplier)) * L;
  const i64 tiles = (N + KEYS - 1) / KEYS;
  for (i64 tile = blockIdx.x; tile < E * M * tiles; tile += gridDim.x) {
    const i64 row = tile / tiles, n0 = tile % tiles * KEYS, e = row / M, m = row % M;
    const int count = int(N - n0 < KEYS ? N - n0 : KEYS), i = queryPositions[row];
    const int *keys = keyPositions + e * N + n0;
    __syncthreads();
    for (int k = threadIdx.x; k < KEYS; k += blockDim.x) z[k] = k < count ? distance(i, keys[k], scale, reach).z : 0;
    for (int s = threadIdx.x; s < H * KEYS; s += blockDim.x)
      dy[s / KEYS * STRIDE + s % KEYS] = s % KEYS < count ? dbias[((e * H + s / KEYS) * M + m) * N + n0 + s % KEYS] : 0;
    __syncthreads();
    for (int s = threadIdx.x; s < FEATURES * KEYS; s += blockDim.x) {
      const int f = s / KEYS, k = s % KEYS;
      const float a = float(hidden[f]) * z[k] + float(hiddenBias[f]);
      float sum = 0;
      for (int h = 0; h < H; h++) sum += dy[h * STRIDE + k] * float(output[h * FEATURES + f]);
      active[f * STRIDE + k] = fmaxf(0, a);
      dactive[f * STRIDE + k] = a > 0 ? sum : 0;
    }
    __syncthreads();
    for (int s = threadIdx.x; s < size - 2; s += blockDim.x) {
      float sum = 0;
      if (s < outputAt) {
        const float *from = dactive + s % FEATURES * STRIDE;
        for (int k = 0; k < KEYS; k++) sum += from[k] * (s < FEATURES ? z[k] : 1);
      } else {
        const int pair = s < outputBiasAt ? s - outputAt : (s - outputBiasAt) * FEATURES;
        const float *left = dy + pair / FEATURES * STRIDE, *right = active + pair % FEATURES * STRIDE;
        for (int k = 0; k < KEYS; k++) sum += left[k] * (s < outputBiasAt ? right[k] : 1);
      }
      gradient[s] += sum;
    }
    __syncthreads();
    for (int k = threadIdx.x; k < KEYS; k += blockDim.x) {  // z's gradient, split into those of c and of the multiplier
      float dz = 0, dc = 0, dmultiplier = 0;
      if (k < count) {
        for (int f = 0; f < FEATURES; f++) dz += dactive[f * STRIDE + k] * float(hidden[f]);
        const Distance at = distance(i, keys[k], scale, reach);
        const float absC = fabsf(scale), dnumerator = dz / at.denominator, ddenominator = -dnumerator * at.z;
        dc = dnumerator * at.d * signOf(scale) / (1 + fabsf(scale * at.d)) +
             ddenominator * at.t * signOf(scale) / (1 + absC * at.t);
        if (reach > float(i)) dmultiplier = ddenominator * absC * L * signOf(float(*multiplier)) / (1 + absC * at.t);
      }
      dy[k] = dc;  // dy and z are free now
      z[k] = dmultiplier;
    }
    __syncthreads();
    if (threadIdx.x < 2) {
      const float *from = threadIdx.x == 0 ? dy : z;
      for (int k = 0; k < KEYS; k++) gradient[size - 2 + threadIdx.x] += from[k];
    }
  }
  __syncthreads();
  for (int s = threadIdx.x; s < size; s += blockDim.x) parts[i64(blockIdx.x) * size + s] = gradient[s];
}

KERNEL fire_bias_total(const float *parts, float *dhidden, float *dhiddenBias, float *doutput, float *doutputBias,
                       float *dc, float *dmultiplier, i64 H) {
  const i64 pairs = H * FEATURES, size = 2 * FEATURES + pairs + H + 2;
  const i64 s = i64(blockIdx.x) * WARP + threadIdx.x;
  const float sum = sumColumn(parts, 0, PARTS, size);
  if (threadIdx.x >= WARP || s >= size) return;
  if (s < FEATURES) dhidden[s] = sum;
  else if (s < 2 * FEATURES) dhiddenBias[s - FEATURES] = sum;
  else if (s < 2 * FEATURES + pairs) doutput[s - 2 * FEATURES] = sum;
  else if (s < size - 2) doutputBias[s - 2 * FEATURES - pairs] = sum;
  else *(s == size - 2 ? dc : dmultiplier) = sum;
}
