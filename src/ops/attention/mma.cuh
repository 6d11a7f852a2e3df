// Tensor cores by warp: what sm_80 and newer share. 16-bit types only.
#pragma once
#include "kernel.cuh"

/** Sixteen bytes to shared memory without waiting; zeros where `real` is false. */
DEVICE void copyAsync16(void *to, const void *from, bool real) {
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(unsigned(__cvta_generic_to_shared(to))), "l"(from),
               "r"(real ? 16 : 0));
}
template <int BYTES> DEVICE void copyAsync(void *to, const void *from) {
  asm volatile("cp.async.ca.shared.global [%0], [%1], %2;" ::"r"(unsigned(__cvta_generic_to_shared(to))), "l"(from),
               "n"(BYTES));
}
DEVICE void commitCopies() { asm volatile("cp.async.commit_group;"); }
/** Until at most LEFT committed groups are still under way. */
template <int LEFT> DEVICE void waitCopies() { asm volatile("cp.async.wait_group %0;" ::"n"(LEFT) : "memory"); }

/** Four 8x8 matrices; lane l gives the address of row l % 8 of matrix l / 8. */
DEVICE void loadMatrices(unsigned (&r)[4], const T *row) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];"
               : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
               : "r"(unsigned(__cvta_generic_to_shared(row))));
}
DEVICE void loadTransposed(unsigned (&r)[4], const T *row) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0,%1,%2,%3}, [%4];"
               : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
               : "r"(unsigned(__cvta_generic_to_shared(row))));
}

/** c [16,8] += a [16,16] b [16,8]; b0, b1 hold the halves of b. */
DEVICE void multiply(float (&c)[4], const unsigned (&a)[4], unsigned b0, unsigned b1, const bf16 *) {
  asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
               : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
               : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}
DEVICE void multiply(float (&c)[4], const unsigned (&a)[4], unsigned b0, unsigned b1, const f16 *) {
  asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
               : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
               : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}

DEVICE unsigned pair(float low, float high) {
  const float v[2] = {low, high};
  return pack(v, static_cast<const T *>(nullptr));
}

// Lane l of an accumulator [16,8] holds columns 2 (l % 4) and the next of rows l / 4 (first two values) and l / 4 + 8.

/** Two neighbouring accumulators [16,8] as the left factor [16,16] of another product. */
DEVICE void asLeft(unsigned (&a)[4], const float (&x)[4], const float (&y)[4]) {
  a[0] = pair(x[0], x[1]);
  a[1] = pair(x[2], x[3]);
  a[2] = pair(y[0], y[1]);
  a[3] = pair(y[2], y[3]);
}

/** Rows of D values in shared memory, padded with zeros to whole products and further so that no two rows' banks meet. */
template <int D> struct Rows {
  static constexpr int WIDTH = (D + 15) / 16 * 16, STEPS = WIDTH / 16, PITCH = WIDTH + 8, CHUNKS = WIDTH / 8;

  /** Starts to copy `count` of COUNT rows from `from` on, zeros beyond. */
  template <int COUNT, int THREADS> static DEVICE void copy(T *to, const T *from, int stride, int count) {
#pragma unroll
    for (int x = 0; x < (COUNT * CHUNKS + THREADS - 1) / THREADS; x++) {
      const int i = threadIdx.x + x * THREADS, row = i / CHUNKS, column = i % CHUNKS * 8;
      if (COUNT * CHUNKS % THREADS && i >= COUNT * CHUNKS) break;
      const bool real = row < count && column < D;
      copyAsync16(to + row * PITCH + column, from + (real ? row * stride + column : 0), real);
    }
  }

  /** The left factor [16,16] of rows `row` and on, columns 16 step and on. */
  static DEVICE void left(unsigned (&a)[4], const T *rows, int row, int step) {
    const int lane = threadIdx.x % WARP;
    loadMatrices(a, rows + (row + lane % 16) * PITCH + step * 16 + lane / 16 * 8);
  }
  /** Right factors: columns are rows `row`.. of the tile, 16 of them; two [16,8]. */
  static DEVICE void right(unsigned (&b)[4], const T *rows, int row, int step) {
    const int lane = threadIdx.x % WARP;
    loadMatrices(b, rows + (row + lane / 16 * 8 + lane % 8) * PITCH + step * 16 + lane / 8 % 2 * 8);
  }
  /** Right factors: 16 rows of the tile by columns 16 step.. of it; two [16,8]. */
  static DEVICE void rightTransposed(unsigned (&b)[4], const T *rows, int row, int step) {
    const int lane = threadIdx.x % WARP;
    loadTransposed(b, rows + (row + lane % 16) * PITCH + step * 16 + lane / 16 * 8);
  }

  /** Rounds 16 rows of sums times `factor` to the warp's own rows of a tile. */
  static DEVICE void put(T *rows, int row, const float (&sums)[2 * STEPS][4], float factor) {
    const int lane = threadIdx.x % WARP;
#pragma unroll
    for (int j = 0; j < 2 * STEPS; j++) {
      T *at = rows + (row + lane / 4) * PITCH + 8 * j + lane % 4 * 2;
      *reinterpret_cast<unsigned *>(at) = pair(sums[j][0] * factor, sums[j][1] * factor);
      *reinterpret_cast<unsigned *>(at + 8 * PITCH) = pair(sums[j][2] * factor, sums[j][3] * factor);
    }
  }

  /** Writes COUNT rows of the warp's own from a tile to rows `first`.. of memory, those before `end`. */
  template <int COUNT> static DEVICE void write(const T *rows, T *to, i64 stride, i64 first, i64 end) {
    constexpr int REAL = D / 8;
    __syncwarp();
    for (int i = threadIdx.x % WARP; i < COUNT * REAL; i += WARP) {
      const int row = i / REAL, column = i % REAL * 8;
      if (first + row < end)
        *reinterpret_cast<uint4 *>(to + (first + row) * stride + column) =
            *reinterpret_cast<const uint4 *>(rows + row * PITCH + column);
    }
  }
};
