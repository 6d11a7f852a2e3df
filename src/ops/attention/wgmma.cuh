// Tensor cores by warpgroup: Hopper's own (sm_90a). Four warps hold 64 rows; right factors lie in shared memory.
// Layouts of descriptors: PTX ISA, "Asynchronous warpgroup level matrix multiply-accumulate".
#pragma once
#include "mma.cuh"
#include "problem.cuh"

constexpr int WARPGROUP = 128, PANEL = 64;  // values of a row in one 128-byte panel
/** In units of 16 bytes, with what belongs beside it in a descriptor. */
using Address = unsigned;

/** Ordinary writes to shared memory, by cp.async too, become visible to the tensor cores after this and a barrier. */
DEVICE void fenceShared() { asm volatile("fence.proxy.async.shared::cta;" ::: "memory"); }
/** The oldest tile whose copies may be under way, of LATER ones behind it, can be multiplied. */
template <int LATER> DEVICE void waitTile() {
  waitCopies<LATER>();
  fenceShared();
  __syncthreads();
}
DEVICE void startProducts() { asm volatile("wgmma.fence.sync.aligned;" ::: "memory"); }
DEVICE void commitProducts() { asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory"); }
/** Until at most LEFT committed groups of products are still under way. */
template <int LEFT> DEVICE void waitProducts() { asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(LEFT) : "memory"); }

/** Values are worked out before what follows, beside the products under way. */
template <int N> DEVICE void settle(float (&x)[N][4]) {
#pragma unroll
  for (int j = 0; j < N; j++) asm volatile("" : "+f"(x[j][0]), "+f"(x[j][1]), "+f"(x[j][2]), "+f"(x[j][3])::"memory");
}
/**
 * The same; the assembler would rather wait for the products first, but moves no wait across a branch. This one is never
 * taken: no site is that number.
 */
template <int N> DEVICE void settle(float (&x)[N][4], const Problem &p) {
  settle(x);
  int site;
  unsigned clock;
  asm volatile("mov.u32 %0, %1;" : "=r"(site) : "r"(p.site) : "memory");
  if (site == int(0x80000001))
    do asm volatile("mov.u32 %0, %%clock;" : "=r"(clock)::"memory");
    while (clock % 2);
}

#define SUMS_4(d, j) "+f"(d[j][0]), "+f"(d[j][1]), "+f"(d[j][2]), "+f"(d[j][3])
#define SUMS_32(d)                                                                                              \
  SUMS_4(d, 0), SUMS_4(d, 1), SUMS_4(d, 2), SUMS_4(d, 3), SUMS_4(d, 4), SUMS_4(d, 5), SUMS_4(d, 6), SUMS_4(d, 7)
#define WGMMA_64(TYPE)                                                                                  \
  "{.reg .pred p; setp.ne.b32 p, %37, 0;\n"                                                             \
  "wgmma.mma_async.sync.aligned.m64n64k16.f32." TYPE "." TYPE " "                                       \
  "{%0,%1,%2,%3,%4,%5,%6,%7,%8,%9,%10,%11,%12,%13,%14,%15,"                                             \
  "%16,%17,%18,%19,%20,%21,%22,%23,%24,%25,%26,%27,%28,%29,%30,%31}, {%32,%33,%34,%35}, %36, p, 1, 1, %38;}"

/**
 * c [64,64] = a [64,16] b [16,64], added to what c holds where `add`. TRANSPOSED: 0 where the tile of b holds b's columns
 * as rows, 1 where it holds its rows. Starts only: c and a are the tensor core's until the product has been waited for.
 */
template <int TRANSPOSED>
DEVICE void multiplyGroup(float (&c)[8][4], const unsigned (&a)[4], unsigned long long b, int add, const bf16 *) {
  asm volatile(WGMMA_64("bf16")
               : SUMS_32(c)
               : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b), "r"(add), "n"(TRANSPOSED));
}
template <int TRANSPOSED>
DEVICE void multiplyGroup(float (&c)[8][4], const unsigned (&a)[4], unsigned long long b, int add, const f16 *) {
  asm volatile(WGMMA_64("f16")
               : SUMS_32(c)
               : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b), "r"(add), "n"(TRANSPOSED));
}

#define SUMS_64(d)                                                                                                 \
  SUMS_32(d), SUMS_4(d, 8), SUMS_4(d, 9), SUMS_4(d, 10), SUMS_4(d, 11), SUMS_4(d, 12), SUMS_4(d, 13), SUMS_4(d, 14), \
      SUMS_4(d, 15)
#define WGMMA_128(TYPE)                                                                                 \
  "{.reg .pred p; setp.ne.b32 p, %66, 0;\n"                                                             \
  "wgmma.mma_async.sync.aligned.m64n128k16.f32." TYPE "." TYPE " "                                      \
  "{%0,%1,%2,%3,%4,%5,%6,%7,%8,%9,%10,%11,%12,%13,%14,%15,"                                             \
  "%16,%17,%18,%19,%20,%21,%22,%23,%24,%25,%26,%27,%28,%29,%30,%31,"                                    \
  "%32,%33,%34,%35,%36,%37,%38,%39,%40,%41,%42,%43,%44,%45,%46,%47,"                                    \
  "%48,%49,%50,%51,%52,%53,%54,%55,%56,%57,%58,%59,%60,%61,%62,%63}, %64, %65, p, 1, 1, 0, 0;}"

#define WGMMA_64_SHARED(TYPE)                                                                           \
  "{.reg .pred p; setp.ne.b32 p, %34, 0;\n"                                                             \
  "wgmma.mma_async.sync.aligned.m64n64k16.f32." TYPE "." TYPE " "                                       \
  "{%0,%1,%2,%3,%4,%5,%6,%7,%8,%9,%10,%11,%12,%13,%14,%15,"                                             \
  "%16,%17,%18,%19,%20,%21,%22,%23,%24,%25,%26,%27,%28,%29,%30,%31}, %32, %33, p, 1, 1, 0, 0;}"

/** As multiplyGroup with a in shared memory too, and the columns of b as rows of its tile; c [64,64] or [64,128]. */
DEVICE void multiplyShared(float (&c)[8][4], unsigned long long a, unsigned long long b, int add, const bf16 *) {
  asm volatile(WGMMA_64_SHARED("bf16") : SUMS_32(c) : "l"(a), "l"(b), "r"(add));
}
DEVICE void multiplyShared(float (&c)[8][4], unsigned long long a, unsigned long long b, int add, const f16 *) {
  asm volatile(WGMMA_64_SHARED("f16") : SUMS_32(c) : "l"(a), "l"(b), "r"(add));
}
DEVICE void multiplyShared(float (&c)[16][4], unsigned long long a, unsigned long long b, int add, const bf16 *) {
  asm volatile(WGMMA_128("bf16") : SUMS_64(c) : "l"(a), "l"(b), "r"(add));
}
DEVICE void multiplyShared(float (&c)[16][4], unsigned long long a, unsigned long long b, int add, const f16 *) {
  asm volatile(WGMMA_128("f16") : SUMS_64(c) : "l"(a), "l"(b), "r"(add));
}

#define WGMMA_64_TRANSPOSED(TYPE)                                                                       \
  "{.reg .pred p; setp.ne.b32 p, %34, 0;\n"                                                             \
  "wgmma.mma_async.sync.aligned.m64n64k16.f32." TYPE "." TYPE " "                                       \
  "{%0,%1,%2,%3,%4,%5,%6,%7,%8,%9,%10,%11,%12,%13,%14,%15,"                                             \
  "%16,%17,%18,%19,%20,%21,%22,%23,%24,%25,%26,%27,%28,%29,%30,%31}, %32, %33, p, 1, 1, 1, 1;}"

/** As multiplyShared where the tile of a holds a's columns as rows and that of b holds b's rows. */
DEVICE void multiplyTransposed(float (&c)[8][4], unsigned long long a, unsigned long long b, int add, const bf16 *) {
  asm volatile(WGMMA_64_TRANSPOSED("bf16") : SUMS_32(c) : "l"(a), "l"(b), "r"(add));
}
DEVICE void multiplyTransposed(float (&c)[8][4], unsigned long long a, unsigned long long b, int add, const f16 *) {
  asm volatile(WGMMA_64_TRANSPOSED("f16") : SUMS_32(c) : "l"(a), "l"(b), "r"(add));
}

#define WGMMA_32_TRANSPOSED(TYPE)                                                                       \
  "{.reg .pred p; setp.ne.b32 p, %18, 0;\n"                                                             \
  "wgmma.mma_async.sync.aligned.m64n32k16.f32." TYPE "." TYPE " "                                       \
  "{%0,%1,%2,%3,%4,%5,%6,%7,%8,%9,%10,%11,%12,%13,%14,%15}, %16, %17, p, 1, 1, 1, 1;}"
DEVICE void multiplyTransposed(float (&c)[4][4], unsigned long long a, unsigned long long b, int add, const bf16 *) {
  asm volatile(WGMMA_32_TRANSPOSED("bf16") : SUMS_4(c, 0), SUMS_4(c, 1), SUMS_4(c, 2), SUMS_4(c, 3) : "l"(a), "l"(b), "r"(add));
}
DEVICE void multiplyTransposed(float (&c)[4][4], unsigned long long a, unsigned long long b, int add, const f16 *) {
  asm volatile(WGMMA_32_TRANSPOSED("f16") : SUMS_4(c, 0), SUMS_4(c, 1), SUMS_4(c, 2), SUMS_4(c, 3) : "l"(a), "l"(b), "r"(add));
}

/** The thread's warpgroup, known to be the same for a warp: what is worked out from it takes one register for all lanes. */
DEVICE int warpgroup() { return __shfl_sync(ALL_LANES, int(threadIdx.x / WARPGROUP), 0); }
/** Keeps what is worked out from x behind the branch it stands in. */
DEVICE int hereOnly(int x) {
  asm volatile("" : "+r"(x));
  return x;
}
/** A barrier of the threads of one warpgroup. */
DEVICE void waitWarpgroup(int group) { asm volatile("bar.sync %0, %1;" ::"r"(1 + group), "n"(WARPGROUP) : "memory"); }

/** Four 8x8 matrices to shared memory; lane l gives the address of row l % 8 of matrix l / 8. */
DEVICE void storeMatrices(T *row, const unsigned (&r)[4]) {
  asm volatile("stmatrix.sync.aligned.m8n8.x4.shared.b16 [%0], {%1,%2,%3,%4};" ::"r"(unsigned(__cvta_generic_to_shared(row))),
               "r"(r[0]), "r"(r[1]), "r"(r[2]), "r"(r[3])
               : "memory");
}
/** Adds to memory without waiting; what one thread adds in one place arrives in the order it was sent. */
DEVICE void addTo(float *to, const float (&x)[4]) {
  asm volatile("red.relaxed.gpu.global.add.v4.f32 [%0], {%1,%2,%3,%4};" ::"l"(to), "f"(x[0]), "f"(x[1]), "f"(x[2]), "f"(x[3])
               : "memory");
}
/** What the thread stored or added there before, past the multiprocessor's own cache. */
DEVICE float4 readBack(const float *from) {
  float4 x;
  asm volatile("ld.relaxed.gpu.global.v4.f32 {%0,%1,%2,%3}, [%4];"
               : "=f"(x.x), "=f"(x.y), "=f"(x.z), "=f"(x.w)
               : "l"(from)
               : "memory");
  return x;
}
/** Stores where readBack and addTo look. */
DEVICE void storeThrough(float *to, const float (&x)[4]) {
  asm volatile("st.relaxed.gpu.global.v4.f32 [%0], {%1,%2,%3,%4};" ::"l"(to), "f"(x[0]), "f"(x[1]), "f"(x[2]), "f"(x[3]) : "memory");
}

/**
 * COUNT rows of D values in shared memory as the tensor cores want them: panels [COUNT,64] whose 16-byte chunks are
 * exchanged within 128 bytes by the row (the 128-byte swizzle). Begins at a multiple of 1024 bytes.
 */
template <int D, int COUNT> struct Panels {
  static_assert(D % PANEL == 0 && COUNT % 8 == 0, "whole panels of whole groups of rows");
  static constexpr int SIZE = COUNT * D, STEPS = D / 16;

  static DEVICE int place(int row, int column) {
    return column / PANEL * COUNT * PANEL + row * PANEL + ((column / 8 % 8) ^ (row % 8)) * 8 + column % 8;
  }

  /** Starts to copy `count` rows from `from` on, zeros beyond. */
  template <int THREADS> static DEVICE void copy(T *to, const T *from, int stride, int count) {
    constexpr int CHUNKS = D / 8, STEP = THREADS / CHUNKS;  // rows between a thread's chunks
    static_assert(THREADS % CHUNKS == 0 && STEP % 8 == 0, "a thread's chunks have one place among their rows'");
    const int i = threadIdx.x % THREADS, first = i / CHUNKS, column = i % CHUNKS * 8;
    const T *at = from + first * stride + column;
    T *to0 = to + place(first, column);
#pragma unroll
    for (int x = 0; x < (COUNT + STEP - 1) / STEP; x++, at += STEP * stride) {
      const int row = first + x * STEP;
      if (COUNT % STEP && row >= COUNT) break;
      copyAsync16(to0 + x * STEP * PANEL, at, row < count);
    }
  }

  /** The left factor [16,16] of the warp's rows `row`.. and columns 16 step... */
  static DEVICE void left(unsigned (&a)[4], const T *tile, int row, int step) {
    const int lane = threadIdx.x % WARP;
    loadMatrices(a, tile + place(row + lane % 16, step * 16 + lane / 16 * 8));
  }

  /** Where a tile is for the tensor cores, instead of which they take it too; neighbouring tiles are UNITS apart. */
  static constexpr int UNITS = SIZE * int(sizeof(T)) / 16;
  static DEVICE Address address(const T *tile) { return unsigned(__cvta_generic_to_shared(tile)) / 16 | 1u << 16; }

  /** Left factor [64,16] of rows `row`.., or right factor whose columns these are: their values 16 step... */
  static DEVICE unsigned long long rows(const T *tile, int row, int step) { return rows(address(tile), row, step); }
  static DEVICE unsigned long long rows(Address tile, int row, int step) {
    return descriptor(tile, step / 4 * COUNT * PANEL + row * PANEL + step % 4 * 16);
  }
  /** Right factor [16,64] of rows `row`.. of the tile and the columns of one panel; [16,32] from its column `column` on. */
  static DEVICE unsigned long long rightTransposed(const T *tile, int row, int panel) {
    return rightTransposed(address(tile), row, panel);
  }
  static DEVICE unsigned long long rightTransposed(Address tile, int row, int panel, int column = 0) {
    return descriptor(tile, panel * COUNT * PANEL + row * PANEL + column);
  }

  /** Rounds the warp's 16 rows of sums of one panel to the tile. */
  static DEVICE void put(T *tile, int row, int panel, const float (&sums)[8][4], float factor) {
    const int lane = threadIdx.x % WARP;
#pragma unroll
    for (int j = 0; j < 8; j += 2) {
      unsigned r[4];
#pragma unroll
      for (int x = 0; x < 4; x++)
        r[x] = pair(sums[j + x / 2][x % 2 * 2] * factor, sums[j + x / 2][x % 2 * 2 + 1] * factor);
      storeMatrices(tile + place(row + lane % 16, panel * PANEL + 8 * j + lane / 16 * 8), r);
    }
  }
  /** Writes 16 rows of the warp's own to rows `first`.. of memory, those before `end`. */
  static DEVICE void write(const T *tile, int row, T *to, i64 stride, i64 first, i64 end) {
    constexpr int CHUNKS = D / 8, STEP = WARP / CHUNKS;
    const int lane = threadIdx.x % WARP, r = lane / CHUNKS, column = lane % CHUNKS * 8;
    const int count = int(min(end - first, i64(16))) - r;
    T *at = to + (first + r) * stride + column;
    __syncwarp();
#pragma unroll
    for (int x = 0; x < 16; x += STEP, at += STEP * stride)
      if (x < count) *reinterpret_cast<uint4 *>(at) = *reinterpret_cast<const uint4 *>(tile + place(row + r + x, column));
  }

 private:
  /** Of what begins `offset` values into a tile. Groups of 8 rows are 1024 bytes apart; 128-byte swizzle. */
  static DEVICE unsigned long long descriptor(Address tile, int offset) {
    constexpr unsigned UNIT = 16, SWIZZLE_128 = 1u << 30, GROUP = 1024 / UNIT;
    // The address takes 14 bits and never carries: a tile's part is worked out once, an offset costs one addition.
    return (unsigned long long)(SWIZZLE_128 | GROUP) << 32 | (tile + offset * int(sizeof(T)) / UNIT);
  }
};
