// greedy_steps, CUDA. Contract: greedy_steps.ts in this folder.
//
// One launch for many tokens. There is one block per multiprocessor, all at the same time, and each has a share of the rows
// of every matrix; a product's results are sent to all blocks (mail.cuh), which each keep the whole residual stream. So a
// layer is a chain of eight exchanges, while what is read of device memory arrives ahead of its use (feed.cuh). A head's
// attention is one block's. Sums have one order whatever ROWS is. All products share one piece of code: what a layer runs
// through should stay in the instruction cache.
#include "activation/functions.cuh"
#include "choice.cuh"
#include "feed.cuh"
#include "mail.cuh"
#include "mean.cuh"
#include "routes.cuh"
#include "shapes.cuh"

namespace {

/** Inputs of products; half precision has no room for what is not normalised yet. */
template <class X> struct InputOf {
  using Type = X;
};
template <> struct InputOf<f16> {
  using Type = float;
};
using Input = InputOf<T>::Type;

constexpr int EACH = (WIDTH + THREADS - 1) / THREADS;  // elements of a row of the residual stream in a thread

DEVICE void fetchNear(const T *at) { asm volatile("prefetch.global.L2 [%0];" ::"l"(at)); }

class Decoder {
  const Problem &p;
  Shared &shared;
  const int *places;
  Input *const normed, *const plain;  // inputs of products: [ROWS, NORMED] and [ROWS, PLAIN], in turn
  Feed &feed;
  Word *const mail;
  const int warp = threadIdx.x / WARP, lane = threadIdx.x % WARP;
  float x[ROWS][EACH];  // this thread's elements of the residual stream
  unsigned tag = 1;     // of what is sent next

  DEVICE const T *parameter(int layer, int place) const {
    return p.parameters + i64(places[layer * PLACES + place]) * 64;
  }
  DEVICE const T *normBefore(int layer, int work) const {
    if (work == LOGITS) return p.norm;
    return parameter(layer, work == QKV ? SELF_NORM : work == CROSS_QUERY ? CROSS_NORM : FEED_NORM);
  }

  /** The residual stream, plus what was sent last if `from` says where, times the norm's weight: the next product's input. */
  DEVICE void normalise(const Word *from, const T *weight) {
    float scale[EACH];
#pragma unroll
    for (int j = 0; j < EACH; j++) {
      const int i = threadIdx.x + j * THREADS;
      scale[j] = i < WIDTH ? float(weight[i]) : 0;
    }
#pragma unroll
    for (int r = 0; r < ROWS; r++) {
      float added[EACH] = {};
      if (from) receive(from + r * WIDTH, threadIdx.x, THREADS, WIDTH, tag - 1, added);
      float square = 0;
#pragma unroll
      for (int j = 0; j < EACH; j++) {
        const int i = threadIdx.x + j * THREADS;
        if (i >= WIDTH) break;
        x[r][j] += added[j];
        square += x[r][j] * x[r][j];
        normed[r * NORMED + i] = Input(x[r][j] * scale[j]);
      }
      square = acrossLanes<Sum>(square);
      if (lane == 0) shared.squares[r][warp] = square;
    }
    __syncthreads();
  }
  /** What a normalised product is multiplied by in the end. */
  DEVICE void factors(float (&factor)[ROWS]) const {
#pragma unroll
    for (int r = 0; r < ROWS; r++) {
      float square = 0;
#pragma unroll
      for (int w = 0; w < WARPS; w++) square += shared.squares[r][w];
      factor[r] = rsqrtf(square / WIDTH + p.eps);
    }
  }

  /** What was sent last, `count` elements a row: the next product's input. */
  DEVICE void gather(const Word *from, int count) {
    constexpr int TOGETHER = 4;
#pragma unroll 1
    for (int r = 0; r < ROWS; r++)
#pragma unroll 1
      for (int first = threadIdx.x; first < count; first += TOGETHER * THREADS) {
        float v[TOGETHER];
        receive(from + r * count, first, THREADS, count, tag - 1, v);
#pragma unroll
        for (int j = 0; j < TOGETHER; j++)
          if (first + j * THREADS < count) plain[r * PLAIN + first + j * THREADS] = Input(v[j]);
      }
    __syncthreads();
  }

  /** N slots of a matrix's row times the inputs from `input` on. */
  template <int N> DEVICE void multiplySlots(const Input *input, int stride, float (&sums)[ROWS][2]) {
    feed.wait(N);
    uint4 pieces[N];
#pragma unroll
    for (uint4 &piece : pieces) piece = feed.take();
#pragma unroll
    for (int s = 0; s < N; s++) {
      float w[PER];
      unpackPiece(pieces[s], w);
#pragma unroll
      for (int r = 0; r < ROWS; r++) {
        float v[PER];
        load(input + r * stride + s * SLOT, v);
#pragma unroll
        for (int k = 0; k < PER; k++) sums[r][k % 2] += w[k] * v[k];
      }
    }
  }

  /** The next row of a matrix times the inputs, `slots` of them; in every lane. */
  DEVICE void multiply(const Input *input, int stride, int slots, float (&product)[ROWS]) {
    float sums[ROWS][2] = {};
    input += lane * PER;
#pragma unroll 1
    for (int n; slots > 0; slots -= n) {
      n = slots < PART ? 1 : PART;
      feed.reserve(n);
      if (n == PART) multiplySlots<PART>(input, stride, sums);
      else multiplySlots<1>(input, stride, sums);
      input += n * SLOT;
    }
#pragma unroll
    for (int r = 0; r < ROWS; r++) product[r] = acrossLanes<Sum>(sums[r][0] + sums[r][1]);
  }

  /** One product: its input, this block's rows of it, and what follows from them. One piece of code for all of them, which
   * stays in the instruction cache. */
  DEVICE void stage(int layer, int work) {
    const Route route = shared.routes[work];
    const bool normalised = isNormalised(work);
    feed.refill();
    if (work == QKV) fetchPast(layer);
    if (!normalised) fetchNorm(layer, work);
    if (normalised) normalise(work == QKV && layer == 0 ? nullptr : mail + route.from, normBefore(layer, work));
    else gather(mail + route.from, route.inputs);
    const Input *input = normalised ? normed : plain;
    const int stride = normalised ? NORMED : PLAIN, slots = slotsFor(route.inputs);
    float factor[ROWS];
    if (normalised) factors(factor);
    else
      for (float &one : factor) one = 1;
    Key best[ROWS] = {};
    const int width = p.outputs(work), end = shared.end[work];
#pragma unroll 1
    for (int row = feed.firstRow(work); row < end; row += WARPS) {
      float y[ROWS], gate[ROWS];
#pragma unroll 1
      for (int left = GATED && work == UP ? 2 : 1;; left--) {
        multiply(input, stride, slots, y);
#pragma unroll
        for (int r = 0; r < ROWS; r++) y[r] *= factor[r];
        if (left == 1) break;
#pragma unroll
        for (int r = 0; r < ROWS; r++) gate[r] = y[r];
      }
      if (work == LOGITS) {
#pragma unroll
        for (int r = 0; r < ROWS; r++) best[r] = LargestKey::of(best[r], keyOf(float(T(y[r] * p.alpha)), row));
        continue;
      }
#pragma unroll
      for (int r = 0; r < ROWS; r++) {
        if (lane != r) continue;
        float v = y[r];
        if (work == UP) with(ACTIVATION, [&](auto f) { v = GATED ? f.value(gate[r]) * v : f.value(v); });
        send(mail + route.to + r * width + row, v, tag);
      }
    }
    if (work == LOGITS) return choose(best);
    tag++;
    if (work == QKV) selfAttention(layer);
    if (work == CROSS_QUERY) crossAttention();
  }

  /** This lane's part of a product of query and key, and of all lanes that share a key. */
  DEVICE float score(const float (&query)[PER], const uint4 &key) const {
    float k[PER], dot = 0;
    unpackPiece(key, k);
#pragma unroll
    for (int i = 0; i < PER; i++) dot += query[i] * k[i];
    return acrossLanes<Sum, LANES>(dot) * p.scale;
  }

  /** Puts the warps' means together and sends a head's result. */
  DEVICE void finish(Mean mean, Word *to) {
    float top = mean.top;
#pragma unroll
    for (int apart = LANES; apart < WARP; apart *= 2) top = fmaxf(top, __shfl_xor_sync(ALL_LANES, top, apart));
    const float weight = top == -infinity() ? 0 : exponential2(mean.top - top);
    float total = mean.total * weight;
#pragma unroll
    for (int k = 0; k < PER; k++) mean.sums[k] *= weight;
#pragma unroll
    for (int apart = LANES; apart < WARP; apart *= 2) {
      total += __shfl_xor_sync(ALL_LANES, total, apart);
#pragma unroll
      for (int k = 0; k < PER; k++) mean.sums[k] += __shfl_xor_sync(ALL_LANES, mean.sums[k], apart);
    }
    float *partial = shared.partial[warp];
    if (lane < LANES)
      for (int k = 0; k < PER; k++) partial[lane * PER + k] = mean.sums[k];
    if (lane == 0) {
      partial[HEAD_WIDTH] = top;
      partial[HEAD_WIDTH + 1] = total;
    }
    __syncthreads();
    for (int d = threadIdx.x; d < HEAD_WIDTH; d += THREADS) {
      float highest = -infinity(), whole = 0, sum = 0;
#pragma unroll
      for (int w = 0; w < WARPS; w++) highest = fmaxf(highest, shared.partial[w][HEAD_WIDTH]);
      const float from = highest == -infinity() ? 0 : highest;
#pragma unroll
      for (int w = 0; w < WARPS; w++) {
        const float share = exponential2(shared.partial[w][HEAD_WIDTH] - from);
        whole += share * shared.partial[w][HEAD_WIDTH + 1];
        sum += share * shared.partial[w][d];
      }
      send(to + d, float(T(whole > 0 || whole != whole ? sum / whole : 0)), tag);
    }
  }

  /** A head's vectors of the new token, `count` of them, `apart` from each other, to shared memory. */
  DEVICE void receiveFresh(const Word *from, int count, int apart) {
    for (int i = threadIdx.x; i < count * HEAD_WIDTH; i += THREADS) {
      float v[1];
      receive(from + i / HEAD_WIDTH * apart + i % HEAD_WIDTH, 0, 1, 1, tag - 1, v);
      shared.fresh[i] = T(v[0]);
    }
    __syncthreads();
  }
  DEVICE uint4 freshPiece(int vector) const {
    return *reinterpret_cast<const uint4 *>(shared.fresh + vector * HEAD_WIDTH + lane % LANES * PER);
  }

  /** Asks for the scales of the norm behind a product. */
  DEVICE void fetchNorm(int layer, int work) const {
    constexpr int LINE = 128 / int(sizeof(T));
    const bool last = work == DOWN && layer + 1 == p.L;
    const T *weight = normBefore(layer + (work == DOWN), last ? LOGITS : work == DOWN ? QKV : work + 1);
    for (int i = threadIdx.x * LINE; i < WIDTH; i += THREADS * LINE) fetchNear(weight + i);
  }

  /** Asks for the keys and values that self-attention is about to read: by then they are near. */
  DEVICE void fetchPast(int layer) const {
    for (int task = blockIdx.x; task < ROWS * HEADS; task += BLOCKS) {
      const int r = task / HEADS, h = task % HEADS;
      const i64 cache = (i64(layer * ROWS + r) * p.C * HEADS + h) * HEAD_WIDTH;
      for (int n = threadIdx.x / LANES; n < min(shared.position[r], p.C); n += THREADS / LANES) {
        const i64 at = cache + i64(n) * INNER + lane % LANES * PER;
        fetchNear(p.keys + at);
        fetchNear(p.values + at);
      }
    }
  }

  DEVICE void selfAttention(int layer) {
    for (int task = blockIdx.x; task < ROWS * HEADS; task += BLOCKS) {
      const int r = task / HEADS, h = task % HEADS, position = shared.position[r], radius = (p.P - 1) / 2;
      const i64 cache = (i64(layer * ROWS + r) * p.C * HEADS + h) * HEAD_WIDTH;
      const int groups = position / TOGETHER + 1;
      Mean mean;
      float query[PER];
      for (int first = warp; first < groups || first == warp; first += WARPS * GROUPS) {
        uint4 key[GROUPS], value[GROUPS];
        float scores[GROUPS], extra[GROUPS];
#pragma unroll
        for (int i = 0; i < GROUPS; i++) {
          const int n = (first + i * WARPS) * TOGETHER + lane / LANES;
          const i64 at = cache + i64(n) * INNER + lane % LANES * PER;
          const bool cached = n < position && n < p.C;
          key[i] = cached ? *reinterpret_cast<const uint4 *>(p.keys + at) : make_uint4(0, 0, 0, 0);
          value[i] = cached ? *reinterpret_cast<const uint4 *>(p.values + at) : make_uint4(0, 0, 0, 0);
          extra[i] = p.bias && n <= position ? p.bias[h * p.P + max(n - position, -radius) + radius] : 0;
        }
        if (first == warp) {
          receiveFresh(mail + QKV_BOX + r * 3 * INNER + h * HEAD_WIDTH, 3, INNER);
          unpackPiece(freshPiece(0), query);
          const int lanes = 2 * LANES;  // those of this block that keep the new key and value
          if (int(threadIdx.x) < lanes && position < p.C)
            *reinterpret_cast<uint4 *>((int(threadIdx.x) < LANES ? p.keys : p.values) + cache + i64(position) * INNER +
                                       lane % LANES * PER) = freshPiece(1 + threadIdx.x / LANES);
        }
#pragma unroll
        for (int i = 0; i < GROUPS; i++) {
          const int n = (first + i * WARPS) * TOGETHER + lane / LANES;
          if (n == position) {
            key[i] = freshPiece(1);
            value[i] = freshPiece(2);
          }
          const float s = (score(query, key[i]) + extra[i]) * LOG2E;
          scores[i] = n <= position ? s : -infinity();
        }
        mean.add(scores, value);
      }
      finish(mean, mail + ATTENDED + r * INNER + h * HEAD_WIDTH);
    }
    tag++;
  }

  /** N groups of a warp's keys, the first of which is `first`. */
  template <int N> DEVICE void attendSource(Mean &mean, const float (&query)[PER], int r, int first) {
    uint4 key[N], value[N];
    float scores[N];
    feed.wait(2 * N);
#pragma unroll
    for (uint4 &piece : key) piece = feed.take();
#pragma unroll
    for (uint4 &piece : value) piece = feed.take();
#pragma unroll
    for (int i = 0; i < N; i++) {
      const int n = (first + i * WARPS) * TOGETHER + lane / LANES;
      const bool seen = n < p.S && (!p.crossSegments || p.crossSegments[r * p.S + n] >= 0);
      const float s = score(query, key[i]) * LOG2E;
      scores[i] = seen ? s : -infinity();
    }
    mean.add(scores, value);
  }

  DEVICE void crossAttention() {
    for (int task = blockIdx.x; task < ROWS * HEADS; task += BLOCKS) {
      const int r = task / HEADS, h = task % HEADS;
      Mean mean;
      float query[PER];
      feed.refill();
      receiveFresh(mail + QUERY_BOX + r * INNER + h * HEAD_WIDTH, 1, INNER);
      unpackPiece(freshPiece(0), query);
      int n;
#pragma unroll 1
      for (int first = warp; (n = feed.groupsFrom(first)) > 0; first += n * WARPS) {
        feed.reserve(2 * n);
        if (n == GROUPS) attendSource<GROUPS>(mean, query, r, first);
        else attendSource<1>(mean, query, r, first);
      }
      finish(mean, mail + CROSS_ATTENDED + r * INNER + h * HEAD_WIDTH);
    }
    tag++;
  }

  /** The best token of every row among a warp's becomes the best of all: the rows go on. */
  DEVICE void choose(const Key (&mine)[ROWS]) {
#pragma unroll
    for (int r = 0; r < ROWS; r++)
      if (lane == r) shared.best[r][warp] = mine[r];
    __syncthreads();
    Word *const letters = mail + BEST_BOX;
    if (threadIdx.x < ROWS) {
      const Key key = best(threadIdx.x);
      Word *to = letters + (threadIdx.x * BLOCKS + blockIdx.x) * 2;
      send(to, unsigned(key >> 32), tag);
      send(to + 1, unsigned(key), tag);
    }
    __syncthreads();
#pragma unroll 1
    for (int r = 0; r < ROWS; r++) {
      Key largest = 0;
      for (int b = threadIdx.x; b < BLOCKS; b += THREADS) {
        unsigned halves[2];
        receive(letters + (r * BLOCKS + b) * 2, 0, 1, 2, tag, halves);
        largest = LargestKey::of(largest, Key(halves[0]) << 32 | halves[1]);
      }
      largest = acrossLanes<LargestKey>(largest);
      if (lane == 0) shared.best[r][warp] = largest;
    }
    tag++;
    __syncthreads();
    if (threadIdx.x < ROWS) advance(threadIdx.x, indexOf(best(threadIdx.x)));
    __syncthreads();
  }
  DEVICE Key best(int r) const {
    Key key = shared.best[r][0];
    for (int w = 1; w < WARPS; w++) key = LargestKey::of(key, shared.best[r][w]);
    return key;
  }

  /** As the op of this name. */
  DEVICE void advance(int r, int chosen) {
    const int at = shared.position[r];
    if (at >= p.C) return;
    const int id = shared.ended[r] ? p.pad : chosen;
    if (blockIdx.x == 0) p.history[r * p.C + at] = id;
    shared.position[r] = at + 1;
    shared.token[r] = id;
    for (int e = 0; e < p.E; e++)
      if (id == p.eos[e]) shared.ended[r] = 1;
  }

  DEVICE void embed() {
#pragma unroll
    for (int r = 0; r < ROWS; r++) {
      const int id = shared.token[r];
      const bool known = id >= 0 && id < p.V;
#pragma unroll
      for (int j = 0; j < EACH; j++) {
        const int i = threadIdx.x + j * THREADS;
        x[r][j] = i >= WIDTH ? 0 : known ? float(p.embedding[i64(id) * WIDTH + i]) : notANumber();
      }
    }
  }

 public:
  DEVICE Decoder(const Problem &problem, Shared &sharedMemory, const int *placesOfLayers, Input *inputs, Feed &itsFeed,
                 Word *letters)
      : p(problem), shared(sharedMemory), places(placesOfLayers), normed(inputs), plain(inputs + ROWS * NORMED), feed(itsFeed), mail(letters) {}

  DEVICE void step() {
    embed();
    int layer = 0, work = QKV;
#pragma unroll 1
    for (;; work++) {
      if (work == CROSS) work++;
      if (work == LOGITS && layer + 1 < p.L) {
        layer++;
        work = QKV;
      }
      stage(layer, work);
      if (work == LOGITS) return;
    }
  }
};

}  // namespace

/** Makes every word's tag one that is never sent. */
KERNEL greedy_steps_clear(Word *mail) {
  const i64 i = i64(blockIdx.x) * blockDim.x + threadIdx.x;
  if (i < WORDS) mail[i] = 0;
}

KERNEL __launch_bounds__(THREADS, 1)
greedy_steps(const T *parameters, const int *places, const T *embedding, const T *head, const T *norm, const float *bias,
             const T *crossKeys, const T *crossValues, const int *crossSegments, const int *eos, int *token, int *ended,
             int *position, int *history, T *keys, T *values, Word *mail, i64 L, i64 V, i64 P, i64 S, i64 E, i64 C,
             float alpha, float scale, float eps, int pad, int steps) {
  extern __shared__ __align__(16) unsigned char memory[];
  const Problem p{parameters,    places, embedding, head,     norm,    bias, crossKeys, crossValues,
                  crossSegments, eos,    token,     ended,    position, history, keys,  values,
                  int(L),        int(V), int(P),    int(S),   int(E),  int(C), steps,  pad,
                  alpha,         scale,  eps};
  uint4 *slots = reinterpret_cast<uint4 *>(memory);
  Input *inputs = reinterpret_cast<Input *>(slots + WARPS * DEPTH * WARP);
  Shared &shared = *reinterpret_cast<Shared *>(inputs + ROWS * (NORMED + PLAIN));
  int *placesOfLayers = reinterpret_cast<int *>(&shared + 1);
  for (int i = threadIdx.x; i < p.L * PLACES; i += THREADS) placesOfLayers[i] = places[i];
  for (int i = threadIdx.x; i < ROWS * (NORMED + PLAIN); i += THREADS) inputs[i] = Input(0);  // also behind rows' ends
  if (threadIdx.x < ROWS) {
    shared.token[threadIdx.x] = token[threadIdx.x];
    shared.ended[threadIdx.x] = ended[threadIdx.x];
    shared.position[threadIdx.x] = position[threadIdx.x];
  }
  if (threadIdx.x == 0) {
    int turn = 0;
    for (int work = 0; work < WORKS; work++) {
      const i64 rows = p.outputs(work);
      shared.begin[work] = int(rows * blockIdx.x / BLOCKS);
      shared.end[work] = int(rows * (blockIdx.x + 1) / BLOCKS);
      shared.turn[work] = turn;
      shared.routes[work] = routeOf(work);
      turn = (turn + shared.end[work] - shared.begin[work]) % WARPS;
    }
  }
  __syncthreads();
  Feed feed(p, shared, placesOfLayers, slots);
  if (threadIdx.x % WARP == 0) listRuns(p, shared, feed, shared.runs[threadIdx.x / WARP]);
  __syncwarp();
  Decoder decoder(p, shared, placesOfLayers, inputs, feed, mail);
  for (int step = 0; step < steps; step++) decoder.step();
  if (blockIdx.x == 0 && threadIdx.x < ROWS) {
    token[threadIdx.x] = shared.token[threadIdx.x];
    ended[threadIdx.x] = shared.ended[threadIdx.x];
    position[threadIdx.x] = shared.position[threadIdx.x];
  }
}
