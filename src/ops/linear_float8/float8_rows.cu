// quantise_float8, rms_norm_float8, gated_float8, CUDA. Contracts: the .ts files of these names. A block of THREADS threads holds a row
// of WIDTH in registers, EACH elements at a time, so that it is read once and written once.
#include "../activation/functions.cuh"
#include "ahead.cuh"

namespace {

constexpr int PIECES = (WIDTH / EACH + THREADS - 1) / THREADS;
constexpr float MOST = 448, LEAST = 1e-30f;
using Row = float[PIECES][EACH];

/** body(p, d) for this thread's pieces of a row. */
template <class Body> DEVICE void forPieces(const Body &body) {
#pragma unroll
  for (int p = 0; p < PIECES; p++) {
    const int d = (threadIdx.x + p * THREADS) * EACH;
    if (WIDTH % (THREADS * EACH) == 0 || d < WIDTH) body(p, d);
  }
}

/** Of bits of positive floats, whose order is that of the numbers; NaN is the largest. */
struct LargestBits {
  static DEVICE unsigned of(unsigned a, unsigned b) { return max(a, b); }
  static DEVICE unsigned none() { return 0; }
};

/** Four numbers in e4m3, to nearest even, what is beyond 448 to that. */
DEVICE unsigned float8x4(const float *v) {
#if __CUDA_ARCH__ >= 890
  unsigned short low, high;
  asm("cvt.rn.satfinite.e4m3x2.f32 %0, %1, %2;" : "=h"(low) : "f"(v[1]), "f"(v[0]));
  asm("cvt.rn.satfinite.e4m3x2.f32 %0, %1, %2;" : "=h"(high) : "f"(v[3]), "f"(v[2]));
  return low | unsigned(high) << 16;
#else
  __trap();
  return 0;
#endif
}

/** Writes a row and its scale. */
DEVICE void storeRow(Row &row, unsigned char *values, float *scales, i64 n) {
  unsigned bits = 0;
  forPieces([&](int p, int) {
    for (float v : row[p]) bits = max(bits, __float_as_uint(v) & 0x7fffffffu);
  });
  const float most = __uint_as_float(acrossBlock<LargestBits>(bits));
  const bool finite = most < infinity(), some = finite && most >= LEAST;
  if (threadIdx.x == 0) scales[n] = !finite ? notANumber() : some ? most / MOST : 0;
  const float inverse = MOST / most;
  forPieces([&](int p, int d) {
    for (float &v : row[p]) v = some ? v * inverse : 0;
    static_assert(EACH == 8, "stores of 8 bytes");
    *reinterpret_cast<uint2 *>(values + n * WIDTH + d) = make_uint2(float8x4(row[p]), float8x4(row[p] + 4));
  });
}

}  // namespace

extern "C" __global__ void __launch_bounds__(THREADS)
quantise_float8(const T *x, unsigned char *values, float *scales, i64 N, i64 I) {
  const i64 n = blockIdx.x;
  Row row;
  waitForEarlier();
  forPieces([&](int p, int d) { load(x + n * WIDTH + d, row[p]); });
  storeRow(row, values, scales, n);
}

extern "C" __global__ void __launch_bounds__(THREADS)
rms_norm_float8(const float *x, const T *weight, unsigned char *values, float *scales, i64 N, i64 D, float eps) {
  const i64 n = blockIdx.x;
  Row row;
  float square = 0;
  waitForEarlier();
  forPieces([&](int p, int d) {
    load(x + n * WIDTH + d, row[p]);
    for (float v : row[p]) square += v * v;
  });
  const float r = rsqrtf(acrossBlock<Sum>(square) / WIDTH + eps);
  forPieces([&](int p, int d) {
    float scale[EACH];
    load(weight + d, scale);
    for (int k = 0; k < EACH; k++) row[p][k] *= scale[k] * r;
  });
  storeRow(row, values, scales, n);
}

extern "C" __global__ void __launch_bounds__(THREADS)
gated_float8(const T *gate, const T *up, const float *xScales, const float *gateScales, const float *upScales,
             unsigned char *values, float *scales, i64 N, i64 F, int kind) {
  const i64 n = blockIdx.x;
  Row row;
  waitForEarlier();
  const float x = xScales ? xScales[n] : 1;
  with(kind, [&](auto f) {
    forPieces([&](int p, int d) {
      float u[EACH];
      load(gate + n * WIDTH + d, row[p]);
      load(up + n * WIDTH + d, u);
      if (xScales) {
        float g[EACH], s[EACH];
        load(gateScales + d, g);
        load(upScales + d, s);
        for (int k = 0; k < EACH; k++) {
          row[p][k] *= x * g[k];
          u[k] *= x * s[k];
        }
      }
      for (int k = 0; k < EACH; k++) row[p][k] = f.value(row[p][k]) * u[k];
    });
  });
  storeRow(row, values, scales, n);
}
