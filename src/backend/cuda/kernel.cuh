// What every CUDA kernel includes. NVRTC compiles each .cu once per compute type with -DCOMPUTE_TYPE=float,
// __nv_bfloat16 or __half, and once more per set of a plan's defines. Values are loaded and stored through float, sums
// are taken in float. Nothing here may depend on the order in which blocks or warps run.
#pragma once
#include <cuda_bf16.h>
#include <cuda_fp16.h>

using bf16 = __nv_bfloat16;
using f16 = __half;
using T = COMPUTE_TYPE;  // after the includes: CUDA's own headers use T as a template parameter
using i64 = long long;

#define KERNEL extern "C" __global__ void
#define DEVICE __device__ __forceinline__

/** Elements that a thread handles together: 16 bytes of T, so that neighbouring threads read neighbouring bytes. */
constexpr int VECTOR = 16 / int(sizeof(T));
/** Elements per thread of a launch over flat elements: RUN of launch.ts. */
constexpr int RUN = 8;
constexpr int WARP = 32;
constexpr unsigned ALL_LANES = 0xffffffffu;

DEVICE float infinity() { return __int_as_float(0x7f800000); }
DEVICE float notANumber() { return __int_as_float(0x7fffffff); }

/** Whether every pointer is a multiple of 16 bytes; null is. */
template <class... P> DEVICE bool aligned(P... pointers) {
  return ((reinterpret_cast<size_t>(pointers) | ...) & 15) == 0;
}

// Four bytes to the one or two values they hold, and back. The pointer only names the type.
DEVICE void unpack(unsigned w, float *v, const float *) { v[0] = __uint_as_float(w); }
DEVICE void unpack(unsigned w, float *v, const bf16 *) {
  v[0] = __uint_as_float(w << 16);
  v[1] = __uint_as_float(w & 0xffff0000u);
}
DEVICE void unpack(unsigned w, float *v, const f16 *) {
  const float2 f = __half22float2(*reinterpret_cast<const __half2 *>(&w));
  v[0] = f.x;
  v[1] = f.y;
}
DEVICE unsigned pack(const float *v, const float *) { return __float_as_uint(v[0]); }
DEVICE unsigned pack(const float *v, const bf16 *) {
  const __nv_bfloat162 h = __floats2bfloat162_rn(v[0], v[1]);
  return *reinterpret_cast<const unsigned *>(&h);
}
DEVICE unsigned pack(const float *v, const f16 *) {
  const __half2 h = __floats2half2_rn(v[0], v[1]);
  return *reinterpret_cast<const unsigned *>(&h);
}

/** N elements from p, with as few instructions as fit: N sizeof(X) is the alignment of p, or 16 where that is more. */
template <int N, class X> DEVICE void load(const X *p, float (&v)[N]) {
  constexpr int WORDS = N * int(sizeof(X)) / 4, PER_WORD = 4 / int(sizeof(X));
  if constexpr (N == 1) {
    v[0] = float(*p);
  } else if constexpr (WORDS >= 4) {
    static_assert(WORDS % 4 == 0, "whole 16-byte loads");
#pragma unroll
    for (int i = 0; i < WORDS; i += 4) {
      const uint4 w = *reinterpret_cast<const uint4 *>(p + i * PER_WORD);
      unpack(w.x, v + i * PER_WORD, p);
      unpack(w.y, v + (i + 1) * PER_WORD, p);
      unpack(w.z, v + (i + 2) * PER_WORD, p);
      unpack(w.w, v + (i + 3) * PER_WORD, p);
    }
  } else if constexpr (WORDS == 2) {
    const uint2 w = *reinterpret_cast<const uint2 *>(p);
    unpack(w.x, v, p);
    unpack(w.y, v + PER_WORD, p);
  } else {
    unpack(*reinterpret_cast<const unsigned *>(p), v, p);
  }
}

/** 16 bytes that are read once; volatile, so that the loads stay ahead of what uses them. */
DEVICE uint4 loadOnce(const void *p) {
  uint4 w;
  asm volatile("ld.global.nc.L1::no_allocate.v4.u32 {%0, %1, %2, %3}, [%4];"
               : "=r"(w.x), "=r"(w.y), "=r"(w.z), "=r"(w.w)
               : "l"(p));
  return w;
}

/** Rounds N values to X at p, with as few instructions as fit; alignment as `load`. */
template <int N, class X> DEVICE void store(X *p, const float (&v)[N]) {
  constexpr int WORDS = N * int(sizeof(X)) / 4, PER_WORD = 4 / int(sizeof(X));
  if constexpr (N == 1) {
    *p = X(v[0]);
  } else if constexpr (WORDS >= 4) {
    static_assert(WORDS % 4 == 0, "whole 16-byte stores");
#pragma unroll
    for (int i = 0; i < WORDS; i += 4)
      *reinterpret_cast<uint4 *>(p + i * PER_WORD) =
          make_uint4(pack(v + i * PER_WORD, p), pack(v + (i + 1) * PER_WORD, p), pack(v + (i + 2) * PER_WORD, p),
                     pack(v + (i + 3) * PER_WORD, p));
  } else if constexpr (WORDS == 2) {
    *reinterpret_cast<uint2 *>(p) = make_uint2(pack(v, p), pack(v + PER_WORD, p));
  } else {
    *reinterpret_cast<unsigned *>(p) = pack(v, p);
  }
}

/** How many elements a body handles at once, as a type: `n.value` sizes arrays. */
template <int N> struct Count {
  static constexpr int value = N;
};

/**
 * body(i, n) for this thread's elements of [0, N) in a launch over them (perElement in launch.ts): with Count<VECTOR>, or
 * with Count<1> for each where the end or the pointers' alignment forbids whole vectors.
 */
template <class Body> DEVICE void forElements(i64 N, bool whole, const Body &body) {
  const i64 block = i64(blockIdx.x) * blockDim.x * RUN;
#pragma unroll
  for (int step = 0; step < RUN / VECTOR; step++) {
    const i64 first = block + i64(step * blockDim.x + threadIdx.x) * VECTOR;
    if (whole && first + VECTOR <= N) body(first, Count<VECTOR>());
    else
      for (i64 i = first; i < N && i < first + VECTOR; i++) body(i, Count<1>());
  }
}

/** body(d, n) for the parts of a row [0, D) that fall to thread `lane` of `lanes`: vectors, or single elements. */
template <class Body> DEVICE void forRow(i64 D, bool whole, int lane, int lanes, const Body &body) {
  if (whole)
    for (i64 d = i64(lane) * VECTOR; d < D; d += i64(lanes) * VECTOR) body(d, Count<VECTOR>());
  else
    for (i64 d = lane; d < D; d += lanes) body(d, Count<1>());
}

struct Sum {
  static DEVICE float of(float a, float b) { return a + b; }
  static DEVICE double of(double a, double b) { return a + b; }
  static DEVICE float none() { return 0; }
};
struct Largest {
  static DEVICE float of(float a, float b) { return fmaxf(a, b); }
  static DEVICE float none() { return -infinity(); }
};

/** The values of `NEIGHBOURS` neighbouring lanes, a power of two, put together; each gets the result. */
template <class Op, int NEIGHBOURS = WARP, class V> DEVICE V acrossLanes(V v) {
#pragma unroll
  for (int apart = NEIGHBOURS / 2; apart > 0; apart /= 2) v = Op::of(v, __shfl_xor_sync(ALL_LANES, v, apart));
  return v;
}

/** The values of all threads of a block put together; each gets the result. All must call it; blockDim.x % 32 is 0. */
template <class Op, class V> DEVICE V acrossBlock(V v) {
  __shared__ V partial[WARP];
  v = acrossLanes<Op>(v);
  if (blockDim.x == WARP) return v;
  __syncthreads();  // the last call's readers of `partial` are done
  if (threadIdx.x % WARP == 0) partial[threadIdx.x / WARP] = v;
  __syncthreads();
  const int lane = threadIdx.x % WARP;
  return acrossLanes<Op>(lane < blockDim.x / WARP ? partial[lane] : V(Op::none()));
}

/** 2^x to 2e-7 of it; 0 where that is below float's normal range. */
DEVICE float exponential2(float x) {
  float y;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
}
/** e^x to 2e-7 + 6e-8 |x| of it; 0 below -87.3, infinity above 88.7. */
DEVICE float exponential(float x) { return exponential2(x * 1.44269504f); }
/** 1 / x to 2e-7 of it. */
DEVICE float reciprocal(float x) {
  float y;
  asm("rcp.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
}
/** 1 / (1 + e^-x), to 5e-7. */
DEVICE float sigmoid(float x) { return reciprocal(1 + exponential(-x)); }
/** tanh(x), to 5e-7. */
DEVICE float hyperbolicTangent(float x) {
  const float a = fabsf(x), s = x * x;
  float p = s * -5.704990122e-3f + 2.063908987e-2f;  // a fit of (tanh(x) / x - 1) / x^2 up to 0.625
  p = p * s - 5.373971537e-2f;
  p = p * s + 0.1333144158f;
  p = p * s - 0.3333328068f;
  return a < 0.625f ? p * s * x + x : copysignf(1 - 2 * reciprocal(1 + exponential(2 * a)), x);
}

/**
 * Philox4x32-10: four words for a counter and a key. Dropout's layout (src/util/philox.ts): element e takes word e % 4 of
 * philox(e / 4, step, seed, site).
 */
DEVICE uint4 philox(unsigned long long block, unsigned step, unsigned seed, unsigned site) {
  uint4 c = make_uint4(unsigned(block), unsigned(block >> 32), step, 0);
  uint2 k = make_uint2(seed, site);
#pragma unroll
  for (int round = 0; round < 10; round++) {
    const unsigned high0 = __umulhi(c.x, 0xD2511F53u), low0 = c.x * 0xD2511F53u;
    const unsigned high1 = __umulhi(c.z, 0xCD9E8D57u), low1 = c.z * 0xCD9E8D57u;
    c = make_uint4(high1 ^ c.y ^ k.x, low1, high0 ^ c.w ^ k.y, low0);
    k.x += 0x9E3779B9u;
    k.y += 0xBB67AE85u;
  }
  return c;
}

/** An element is kept iff its word is at least this: a share `rate` in [0,1) of all words is below. */
DEVICE unsigned dropThreshold(float rate) { return unsigned(rate * 4294967296.0f); }  // exact
