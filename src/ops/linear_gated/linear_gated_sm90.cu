// linear_gated on Hopper (sm_90a). Contract: linear_gated.ts.
//
// One warpgroup copies tiles to shared memory, two multiply. A block goes through its tiles one after the other; copies run
// ahead across tiles. Blocks of a cluster share what they copy.
#include "../activation/functions.cuh"
#include "ahead.cuh"
#include "copies_sm90.cuh"
#include "products_sm90.cuh"

// GROUP_ROWS: rows of a tile that a warpgroup multiplies, 64 or 128. COLUMNS: of the product's tile, half of them the gate's. TURNS: 1
// where warpgroups take turns with tiles of their own, so that one multiplies while the other writes; 0 where they share a tile.
// CLUSTER_ROWS, CLUSTER_COLUMNS: tiles of a cluster. STAGES: of 64 columns of both factors. ALONG_ROWS: 1 where neighbours in time have
// the same weights, 0 where they have the same rows. KIND: activation.
constexpr int GROUP = 128, DEPTH = 64, MULTIPLIERS = 2, THREADS = (MULTIPLIERS + 1) * GROUP, WARPS = MULTIPLIERS * GROUP / WARP;
constexpr int TILE_ROWS = TURNS ? GROUP_ROWS : MULTIPLIERS * GROUP_ROWS, BLOCKS = GROUP_ROWS / 64, OUTPUTS = COLUMNS / 2;
/** Blocks that read what one block copies. */
constexpr int CLUSTER = CLUSTER_ROWS * CLUSTER_COLUMNS, READERS = CLUSTER_ROWS + CLUSTER_COLUMNS - 1;
/** What one block of a cluster copies for the others as well: rows of each factor's tile. */
constexpr int X_SHARE = TILE_ROWS / CLUSTER_COLUMNS, WEIGHT_SHARE = COLUMNS / CLUSTER_ROWS;
constexpr int WEIGHT_BOX = WEIGHT_SHARE < OUTPUTS ? WEIGHT_SHARE : OUTPUTS;
constexpr int X_TILE = TILE_ROWS * DEPTH, STAGE = X_TILE + COLUMNS * DEPTH;
/** Columns that a warp writes at a time, and the distance of their rows in shared memory, without conflicts of banks. */
constexpr int PIECE = OUTPUTS % 48 == 0 ? 48 : OUTPUTS, PITCH = PIECE % 16 == 8 ? PIECE : PIECE + 8, STAGING = 16 * PITCH;
static_assert(X_SHARE % 8 == 0 && WEIGHT_BOX % 8 == 0 && OUTPUTS % WEIGHT_BOX == 0 && PIECE % 8 == 0, "whole boxes");
extern __shared__ __align__(1024) unsigned char memory[];

/** Tiles in the order in which the clusters take them. */
struct Tiles {
  int rows, columns;
  DEVICE Tiles(i64 N, i64 O)
      : rows(int((N + TILE_ROWS * CLUSTER_ROWS - 1) / (TILE_ROWS * CLUSTER_ROWS))),
        columns(int((O + OUTPUTS * CLUSTER_COLUMNS - 1) / (OUTPUTS * CLUSTER_COLUMNS))) {}
  DEVICE int count() const { return rows * columns; }
  DEVICE int row(int t, int inCluster) const {
    return ((ALONG_ROWS ? t % rows : t / columns) * CLUSTER_ROWS + inCluster) * TILE_ROWS;
  }
  DEVICE int column(int t, int inCluster) const {
    return ((ALONG_ROWS ? t / rows : t % columns) * CLUSTER_COLUMNS + inCluster) * OUTPUTS;
  }
};

/** Where a ring of stages stands. */
struct Place {
  int stage = 0, parity = 0;
  DEVICE void next() {
    if (++stage == STAGES) {
      stage = 0;
      parity ^= 1;
    }
  }
  DEVICE void skip(int count) {
    const int at = stage + count;
    parity ^= at / STAGES & 1;
    stage = at % STAGES;
  }
};

/** Where a tile of whole rows of 128 swizzled bytes lies, in the units of descriptors, and what a descriptor says beside. */
constexpr int UNIT = 16;
DEVICE unsigned inUnits(const void *tile) { return sharedAddress(tile) / UNIT | 1u << 16; }
DEVICE unsigned long long descriptor(unsigned place) {
  constexpr unsigned SWIZZLE_128 = 1u << 30, EIGHT_ROWS = 1024 / UNIT;
  return (unsigned long long)(SWIZZLE_128 | EIGHT_ROWS) << 32 | place;
}
constexpr int STAGE_UNITS = STAGE * int(sizeof(T)) / UNIT, BLOCK_UNITS = 64 * DEPTH * int(sizeof(T)) / UNIT;
constexpr int STEP_UNITS = 16 * int(sizeof(T)) / UNIT;

DEVICE void awaitTurn(int group) { asm volatile("bar.sync %0, 256;" ::"r"(1 + group) : "memory"); }
DEVICE void passTurn(int group) { asm volatile("bar.arrive %0, 256;" ::"r"(2 - group) : "memory"); }

/** Writes f(gate) * up of a warp's 16 rows of each block of 64 of a tile, from row n0 and column o0 on. */
DEVICE void write(const float (&sums)[BLOCKS][COLUMNS / 8][4], T *staging, T *y, i64 N, i64 O, int n0, int o0) {
  const int lane = threadIdx.x % WARP;
#pragma unroll
  for (int b = 0; b < BLOCKS; b++)
#pragma unroll
    for (int o = 0; o < OUTPUTS; o += PIECE) {
#pragma unroll
      for (int j = 0; j < PIECE / 8; j++)
#pragma unroll
        for (int half = 0; half < 2; half++) {
          float v[2];
          with(KIND, [&](auto f) {
            for (int e = 0; e < 2; e++)
              v[e] = f.value(sums[b][o / 8 + j][2 * half + e]) * sums[b][(o + OUTPUTS) / 8 + j][2 * half + e];
          });
          *reinterpret_cast<unsigned *>(staging + (lane / 4 + 8 * half) * PITCH + 8 * j + lane % 4 * 2) = pack(v, y);
        }
      __syncwarp();
#pragma unroll
      for (int i = lane; i < 16 * PIECE / 8; i += WARP) {
        const int row = i / (PIECE / 8), column = i % (PIECE / 8) * 8;
        const i64 n = n0 + 64 * b + row;
        if (n < N && o0 + o + column < O)
          *reinterpret_cast<uint4 *>(y + n * O + o0 + o + column) =
              *reinterpret_cast<const uint4 *>(staging + row * PITCH + column);
      }
      __syncwarp();
    }
}

#if CLUSTER_ROWS * CLUSTER_COLUMNS > 1
#define IN_CLUSTERS __cluster_dims__(CLUSTER_ROWS * CLUSTER_COLUMNS, 1, 1)
#else
#define IN_CLUSTERS
#endif

KERNEL IN_CLUSTERS __launch_bounds__(THREADS, 1)
linear_gated_sm90(const __grid_constant__ TensorMap xMap, const __grid_constant__ TensorMap weightMap, T *y, i64 N, i64 I,
                  i64 O) {
  T *stages = reinterpret_cast<T *>(memory), *staging = stages + STAGES * STAGE;
  Barrier *filled = reinterpret_cast<Barrier *>(staging + WARPS * STAGING), *emptied = filled + STAGES;
  const int rank = CLUSTER > 1 ? int(rankInCluster()) : 0;
  const int clusterRow = rank % CLUSTER_ROWS, clusterColumn = rank / CLUSTER_ROWS;
  const int group = __shfl_sync(ALL_LANES, threadIdx.x / GROUP, 0);  // the same for a warp, which the compiler learns so
  if (threadIdx.x == 0) {
    fetchMap(&xMap);
    fetchMap(&weightMap);
    for (int s = 0; s < STAGES; s++) {
      initialise(filled + s, 1);
      initialise(emptied + s, READERS * (TURNS ? WARPS / MULTIPLIERS : WARPS));
    }
    asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
  }
  if constexpr (CLUSTER > 1) meetCluster();
  else __syncthreads();
  waitForEarlier();

  const Tiles tiles(N, O);
  const int first = blockIdx.x / CLUSTER, step = gridDim.x / CLUSTER, depths = int((I + DEPTH - 1) / DEPTH);
  if (group == 0) {
    giveRegisters<40>();
    if (threadIdx.x == 0) {
      unsigned short row = 0, column = 0;  // blocks with the same rows, with the same columns
      for (int c = 0; c < CLUSTER_COLUMNS; c++) row |= 1 << (clusterRow + c * CLUSTER_ROWS);
      for (int r = 0; r < CLUSTER_ROWS; r++) column |= 1 << (r + clusterColumn * CLUSTER_ROWS);
      Place at;
      for (int t = first; t < tiles.count(); t += step) {
        const int n0 = tiles.row(t, clusterRow) + clusterColumn * X_SHARE, o0 = tiles.column(t, clusterColumn);
        for (int k = 0; k < depths; k++, at.next()) {
          waitFor(emptied + at.stage, at.parity ^ 1);
          Barrier *const whole = filled + at.stage;
          T *const x = stages + at.stage * STAGE, *const weights = x + X_TILE;
          expect(whole, STAGE * int(sizeof(T)));
#pragma unroll
          for (int i = 0; i < WEIGHT_SHARE; i += WEIGHT_BOX) {
            const int r = clusterRow * WEIGHT_SHARE + i, o = r < OUTPUTS ? o0 + r : int(O) + o0 + r - OUTPUTS;
            copyBox<(CLUSTER_ROWS > 1)>(weights + r * DEPTH, &weightMap, k * DEPTH, o, whole, column,
                                        ALONG_ROWS ? READ_ONCE : READ_AGAIN);
          }
          copyBox<(CLUSTER_COLUMNS > 1)>(x + clusterColumn * X_SHARE * DEPTH, &xMap, k * DEPTH, n0, whole, row,
                                         ALONG_ROWS ? READ_AGAIN : AS_ANY);
        }
      }
    }
    __syncwarp();
  } else {
    takeRegisters<232>();
    const int own = group - 1, warp = threadIdx.x % GROUP / WARP, lane = threadIdx.x % WARP;
    unsigned reader = 0;  // this lane tells it that a stage is free
    if (lane < CLUSTER_COLUMNS) reader = clusterRow + lane * CLUSTER_ROWS;
    else if (const int r = lane - CLUSTER_COLUMNS; lane < READERS) reader = r + (r >= clusterRow) + clusterColumn * CLUSTER_ROWS;
    const auto free = [&](int stage) {
      if (lane < READERS) arriveAt(emptied + stage, reader);
    };
    const unsigned lefts = inUnits(stages + (TURNS ? 0 : own * GROUP_ROWS * DEPTH)), rights = inUnits(stages + X_TILE);
    Place at;
    if (TURNS && own == 1) at.skip(depths);
    for (int t = first + (TURNS ? own * step : 0); t < tiles.count(); t += TURNS ? 2 * step : step) {
      float sums[BLOCKS][COLUMNS / 8][4];
      if (TURNS && t != first) awaitTurn(own);
      for (int k = 0, last = 0; k < depths; k++, last = at.stage, at.next()) {
        waitFor(filled + at.stage, at.parity);
        const unsigned left = lefts + at.stage * STAGE_UNITS, right = rights + at.stage * STAGE_UNITS;
        asm volatile("wgmma.fence.sync.aligned;" ::: "memory");
#pragma unroll
        for (int s = 0; s < DEPTH / 16; s++)
#pragma unroll
          for (int b = 0; b < BLOCKS; b++)
            multiply(sums[b], descriptor(left + b * BLOCK_UNITS + s * STEP_UNITS), descriptor(right + s * STEP_UNITS),
                     k + s > 0, y);
        asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory");
        if (k > 0) {
          asm volatile("wgmma.wait_group.sync.aligned 1;" ::: "memory");
          free(last);
        }
      }
      if (TURNS && t + step < tiles.count()) passTurn(own);
      asm volatile("wgmma.wait_group.sync.aligned 0;" ::: "memory");
      free((at.stage + STAGES - 1) % STAGES);
#pragma unroll
      for (int b = 0; b < BLOCKS; b++)
#pragma unroll
        for (int j = 0; j < COLUMNS / 8; j++)  // read from here on, not before
          asm volatile("" : "+f"(sums[b][j][0]), "+f"(sums[b][j][1]), "+f"(sums[b][j][2]), "+f"(sums[b][j][3])::"memory");
      if (TURNS) at.skip(depths);
      write(sums, staging + (own * GROUP / WARP + warp) * STAGING, y, N, O,
            tiles.row(t, clusterRow) + (TURNS ? 0 : own * GROUP_ROWS) + warp * 16, tiles.column(t, clusterColumn));
    }
  }
  if constexpr (CLUSTER > 1) meetCluster();  // others may still arrive at this block's barriers
}
