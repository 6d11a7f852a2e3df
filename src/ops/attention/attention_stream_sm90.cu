// attention, CUDA, forward on Hopper (sm_90a). Contract, formulas and source: attention.ts.
// A block goes through blocks of queries, 64 to a warpgroup, and their tiles of keys without a pause; one more warpgroup
// copies ahead. What a warpgroup multiplies runs beside its own exponentials and the others'.
// lost [B,H,blocks,warps]: queries whose shares attention_forward_sm90.cu has to work out again, see REACHES_FAR.
#include "pipeline.cuh"
#include "softmax.cuh"

// GROUPS: warpgroups with queries. STAGES: tiles of keys and of values in shared memory.
// CONSUMER_REGISTERS, FEEDER_REGISTERS: of a thread.
constexpr int CONSUMERS = GROUPS * WARPGROUP, THREADS = CONSUMERS + WARPGROUP, WARPS = CONSUMERS / WARP;
constexpr int QUERIES = 64 * GROUPS, KEYS = 128, NOTES = 2 * STAGES;
constexpr int COLUMNS = KEYS / 8, PANELS = HEAD_WIDTH / PANEL, MARGIN = 16 + KEYS;
using QueryTile = Panels<HEAD_WIDTH, QUERIES>;
using KeyTile = Panels<HEAD_WIDTH, KEYS>;

// What a step is: x the head (h B + b), y its block of queries, z its tile of keys, w some of these.
constexpr int HIDES = 1, OPENS = 2, ODD = 4, END = 8;
using Note = int4;

extern __shared__ __align__(1024) unsigned char memory[];

struct Shared {
  T *queries, *keys, *values;
  Note *notes;
  Gate *keysFull, *keysEmpty, *valuesFull, *valuesEmpty, *queriesEmpty;
  float *bias;
  int *segments;
  Range *keyRanges;

  DEVICE explicit Shared(const Problem &p) {
    queries = reinterpret_cast<T *>(memory);
    keys = queries + 2 * QueryTile::SIZE;
    values = keys + STAGES * KeyTile::SIZE;
    notes = reinterpret_cast<Note *>(values + STAGES * KeyTile::SIZE);
    keysFull = reinterpret_cast<Gate *>(notes + NOTES);
    keysEmpty = keysFull + STAGES;
    valuesFull = keysEmpty + STAGES;
    valuesEmpty = valuesFull + STAGES;
    queriesEmpty = valuesEmpty + STAGES;
    bias = reinterpret_cast<float *>(queriesEmpty + 2);
    segments = reinterpret_cast<int *>(bias + (BIAS == 1 ? p.P + 1 + 2 * MARGIN : 0));
    keyRanges = reinterpret_cast<Range *>(segments + (SEGMENTS ? STAGES * KEYS : 0));
  }
};

/** The work of the warpgroups with queries. */
DEVICE void attend(const Problem &p, const Shared &shared, T *out, float *lse, int *lost) {
  const int warp = threadIdx.x / WARP, group = warp / 4, own = warp * 16, B = int(p.B);
  Ring<STAGES> ring;
  const auto take = [&](const Ring<STAGES> &at, int step) {
    pass(shared.keysFull + at.place, at.parity);
    fenceShared();  // what was copied is read by the tensor cores
    return shared.notes[step % NOTES];
  };
  const auto await = [&](const Ring<STAGES> &at) {
    pass(shared.valuesFull + at.place, at.parity);
    fenceShared();  // what was copied is read by the tensor cores
  };
  int step = 0;
  Note note = take(ring, step);
  if (note.w & END) return;

  int h = note.x / B;
  BiasRow row(p, h, shared.bias, MARGIN, CONSUMERS);
  barrier<1, CONSUMERS>();
  Softmax<1, COLUMNS, 8 * PANELS> softmax(p, row, note.x % B, h, note.y * QUERIES + own);
  softmax.everyTile = !REACHES_FAR<T>;
  unsigned left[KEYS / 16][4];
  float sums[1][8 * PANELS][4], s[1][COLUMNS][4];
  /** All warpgroups call it where a block of queries begins. */
  const auto follow = [&](const Note &note) {
    const int other = note.x / B;
    if (BIAS && other != h) {
      barrier<1, CONSUMERS>();
      row = BiasRow(p, other, shared.bias, MARGIN, CONSUMERS);
      barrier<1, CONSUMERS>();
    }
    h = other;
    softmax.move(note.x % B, h, note.y * QUERIES + own);
  };
  const auto tileOf = [&](const Note &note) { return shared.queries + (note.w & ODD ? QueryTile::SIZE : 0); };
  const auto startScores = [&](const Note &note, int stage) {
    barrier<2 * WARPGROUP>(2 + group);
    const T *queries = tileOf(note);
    startProducts();
#pragma unroll
    for (int i = 0; i < QueryTile::STEPS; i++)
      multiplyShared(reinterpret_cast<float(&)[16][4]>(s[0]), QueryTile::rows(queries, own / 64 * 64, i),
                     KeyTile::rows(shared.keys + stage * KeyTile::SIZE, 0, i), i > 0, p.q);
    commitProducts();
  };
  /** Warpgroups start products in turn. */
  const auto nextTurn = [&] { arriveAt<2 * WARPGROUP>(2 + (group + 1) % GROUPS); };
  const auto startSums = [&](int stage, bool more) {
#pragma unroll
    for (int j = 0; j < KEYS / 16; j++)
#pragma unroll
      for (int panel = 0; panel < PANELS; panel++)
        multiplyGroup<1>(reinterpret_cast<float(&)[8][4]>(sums[0][8 * panel]), left[j],
                         KeyTile::rightTransposed(shared.values + stage * KeyTile::SIZE, 16 * j, panel), more || j > 0, p.q);
    commitProducts();
  };
  const auto share = [&](const Note &note, int stage) {
    if (!SEGMENTS) arrive(shared.keysEmpty + stage);
    const float none[1][COLUMNS][4] = {};
    softmax.shares(s, none, note.z * KEYS, shared.segments + stage * KEYS, note.w & HIDES);
    if (SEGMENTS) arrive(shared.keysEmpty + stage);
  };
  const auto round = [&] {
#pragma unroll
    for (int j = 0; j < COLUMNS; j += 2) asLeft(left[j / 2], s[0][j], s[0][j + 1]);
  };
  /** The tile of queries is free for outputs once the warpgroup has multiplied it. */
  const auto write = [&](const Note &note, const SoftmaxState<1> &state) {
    T *tile = tileOf(note);
    const i64 head = (note.x % B) * p.H + note.x / B;
    softmax.divide(sums, state, lse + head * p.M, note.y * QUERIES + own);
    if (REACHES_FAR<T>) {
      const int any = __any_sync(ALL_LANES, lostBy(state));
      if (threadIdx.x % WARP == 0) lost[(head * ((p.M + QUERIES - 1) / QUERIES) + note.y) * WARPS + warp] = any;
    }
    barrier<WARPGROUP>(2 + GROUPS + group);
#pragma unroll
    for (int panel = 0; panel < PANELS; panel++)
      QueryTile::put(tile, own, panel, reinterpret_cast<float(&)[8][4]>(sums[0][8 * panel]), 1);
    QueryTile::write(tile, own, out + ((note.x % B) * p.M * p.H + note.x / B) * HEAD_WIDTH, p.stride(), note.y * QUERIES + own,
                     p.M);
    arrive(shared.queriesEmpty + (note.w & ODD ? 1 : 0));
  };
  const auto idle = [&](const Note &note) { return note.y * QUERIES + group * 64 >= int(p.M); };

  if (group == GROUPS - 1) nextTurn();
  while (!(note.w & END)) {
    if (note.w & OPENS) follow(note);
    if (idle(note)) {
      barrier<2 * WARPGROUP>(2 + group);
      nextTurn();
      if (note.w & OPENS) arrive(shared.queriesEmpty + (note.w & ODD ? 1 : 0));
      arrive(shared.keysEmpty + ring.place);
      await(ring);
      arrive(shared.valuesEmpty + ring.place);
      ring.advance();
      note = take(ring, ++step);
      continue;
    }
    startScores(note, ring.place);
    nextTurn();
    waitProducts<0>();
    share(note, ring.place);
    round();
    // The products with a tile's values run beside the next tile's exponentials.
    Note last = note;
    for (;;) {
      Ring<STAGES> following = ring;
      following.advance();
      note = take(following, ++step);
      if (note.w & END || idle(note)) break;
      await(ring);
      startScores(note, following.place);
      startSums(ring.place, !(last.w & OPENS));
      nextTurn();
      waitProducts<1>();
      const auto before = softmax.state;
      if (note.w & OPENS) follow(note);
      share(note, following.place);
      settle(s[0], p);
      waitProducts<0>();
      arrive(shared.valuesEmpty + ring.place);
      if (note.w & OPENS) write(last, before);
      else softmax.template rescale<true>(sums);
      round();
      ring = following;
      last = note;
    }
    await(ring);
    startProducts();
    startSums(ring.place, !(last.w & OPENS));
    waitProducts<0>();
    arrive(shared.valuesEmpty + ring.place);
    write(last, softmax.state);
    ring.advance();
  }
}

/** Copies what the others need. */
DEVICE void feed(const Problem &p, const Shared &shared, T *out, float *lse) {
  const int thread = threadIdx.x % WARPGROUP, warp = thread / WARP, lane = thread % WARP;
  const int B = int(p.B), M = int(p.M), N = int(p.N);
  const int queryStride = int(p.queryStride()), keyStride = int(p.keyStride());
  const int blocks = (M + QUERIES - 1) / QUERIES, all = B * int(p.H) * blocks;
  int step = 0, opened = 0;
  Ring<STAGES> ring;
  const auto sent = [&](Gate *full) {
    if (warp == 0) arrive(full);  // for the note
    arriveWhenCopied(full);
  };
  for (int item = blockIdx.x; item < all; item += gridDim.x) {
    const int head = item / blocks, b = head % B, h = head / B;
    // Long rows of a causal problem and short ones take turns.
    const int block = CAUSAL && head * blocks / int(gridDim.x) % 2 ? blocks - 1 - item % blocks : item % blocks;
    const int m0 = block * QUERIES, seen = CAUSAL ? min(N, m0 + QUERIES + p.queryOffset) : N;
    const int tiles = seen <= 0 ? 0 : (seen + KEYS - 1) / KEYS;
    Range range = {};
    if (SEGMENTS) {
      if (SEGMENTS == 2) range = segmentRange<QUERIES>(p.querySegments + i64(b) * M, m0, M);
      barrier<WARPGROUP>(2 + 2 * GROUPS);
      for (int t = warp; t < tiles; t += WARPGROUP / WARP) {
        const Range keys = segmentRange<KEYS>(p.keySegments + i64(b) * N, t * KEYS, N);
        if (lane == 0) shared.keyRanges[t] = keys;
      }
      barrier<WARPGROUP>(2 + 2 * GROUPS);
    }
    bool opens = true;
    for (int tile = 0; tile < tiles; tile++) {
      const unsigned char sees = SEGMENTS ? sight(range, shared.keyRanges[tile]) : WHOLE;
      if (sees == NONE) continue;
      const int n0 = tile * KEYS, at = ring.place;
      const i64 from = p.key(b, h, n0);
      if (opens) {
        pass(shared.queriesEmpty + opened % 2, opened / 2 % 2 ^ 1);
        QueryTile::copy<WARPGROUP>(shared.queries + opened % 2 * QueryTile::SIZE,
                                   p.q + p.query(b, h, m0), queryStride, M - m0);
        opened++;
      }
      pass(shared.keysEmpty + at, ring.parity ^ 1);
      KeyTile::copy<WARPGROUP>(shared.keys + at * KeyTile::SIZE, p.k + from, keyStride, N - n0);
      if (SEGMENTS && n0 + thread < N)
        copyAsync<4>(shared.segments + at * KEYS + thread, p.keySegments + i64(b) * N + n0 + thread);
      if (thread == 0)
        shared.notes[step % NOTES] =
            make_int4(head, block, tile, (opens ? OPENS : 0) | (sees == PARTLY ? HIDES : 0) | (opened % 2 ? 0 : ODD));
      sent(shared.keysFull + at);
      pass(shared.valuesEmpty + at, ring.parity ^ 1);
      KeyTile::copy<WARPGROUP>(shared.values + at * KeyTile::SIZE, p.v + from, keyStride, N - n0);
      sent(shared.valuesFull + at);
      opens = false;
      step++;
      ring.advance();
    }
    if (!opens) continue;
    for (int i = thread; i < min(QUERIES, M - m0) * HEAD_WIDTH / 8; i += WARPGROUP) {  // they see nothing
      constexpr int CHUNKS = HEAD_WIDTH / 8;
      const int m = m0 + i / CHUNKS;
      *reinterpret_cast<uint4 *>(out + ((i64(b) * M + m) * p.H + h) * HEAD_WIDTH + i % CHUNKS * 8) = make_uint4(0, 0, 0, 0);
      if (i % CHUNKS == 0) lse[(i64(b) * p.H + h) * M + m] = -infinity();
    }
  }
  pass(shared.keysEmpty + ring.place, ring.parity ^ 1);
  if (thread == 0) shared.notes[step % NOTES] = make_int4(0, 0, 0, END);
  sent(shared.keysFull + ring.place);
  waitCopies<0>();
}

KERNEL __launch_bounds__(THREADS, 1) attention_stream_sm90(PROBLEM_PARAMETERS, T *out, float *lse, int *lost) {
  const Problem p PROBLEM;
  const Shared shared(p);
  if (threadIdx.x == 0) {
    for (int i = 0; i < STAGES; i++) {
      makeGate(shared.keysFull + i, WARPGROUP + 1);
      makeGate(shared.valuesFull + i, WARPGROUP + 1);
      makeGate(shared.keysEmpty + i, WARPS);
      makeGate(shared.valuesEmpty + i, WARPS);
    }
    for (int i = 0; i < 2; i++) makeGate(shared.queriesEmpty + i, WARPS);
  }
  __syncthreads();
  if (threadIdx.x < CONSUMERS) {
    takeRegisters<CONSUMER_REGISTERS>();
    attend(p, shared, out, lse, lost);
  } else {
    leaveRegisters<FEEDER_REGISTERS>();
    feed(p, shared, out, lse);
  }
}
