// sample_token, CUDA. Contract: sample_token.ts in this folder.
//
// A block takes a row and reads it a few times. An element's key orders by score, then by id. Elements are counted by how far they
// are below the largest: those of the bins that top_k or top_p may leave are few as a rule, and the rest happens among them. Where they
// are many, the end of top_k or top_p is looked for in one bin. Probabilities are whole numbers of 2^-40, so that their sums do not
// depend on an order.
#include "kernel.cuh"

namespace {

using Key = unsigned long long;
using Mass = unsigned long long;

constexpr int BINS = 2 * THREADS, LIST = THREADS;
constexpr float BINS_PER_UNIT = BINS / 32.0f;  // what is 32 below has a mass below 2^-46 and is in no bin

struct Total {
  static DEVICE Mass of(Mass a, Mass b) { return a + b; }
  static DEVICE Mass none() { return 0; }
};

/** A row's elements. */
struct Row {
  const T *logits;
  i64 V;
  bool whole;
  float temperature, most;

  DEVICE float score(float x) const { return x / temperature; }
  DEVICE Mass mass(float s) const { return __float2ull_rn(expf(s - most) * 1099511627776.0f); }
  DEVICE int bin(float s) const { return (most - s) * BINS_PER_UNIT < BINS ? int((most - s) * BINS_PER_UNIT) : BINS; }
  static DEVICE Key key(float s, i64 id) {
    const unsigned bits = __float_as_uint(s + 0.0f);  // -0 becomes 0
    return Key(bits & 0x80000000u ? ~bits : bits | 0x80000000u) << 32 | unsigned(id);
  }
  static DEVICE float scoreOf(Key key) {
    const auto ordered = unsigned(key >> 32);
    return __uint_as_float(ordered & 0x80000000u ? ordered & 0x7fffffffu : ~ordered);
  }
  DEVICE Mass massOf(Key key) const { return mass(scoreOf(key)); }
  /** The probability of a key's element as a share of the largest. */
  DEVICE float share(Key key) const { return expf(scoreOf(key) - most); }
  /** body(score, id) for this thread's elements that are numbers. */
  template <class Body> DEVICE void forEach(const Body &body) const {
    forRow(V, whole, threadIdx.x, THREADS, [&](i64 i, auto n) {
      float v[n.value];
      load(logits + i, v);
      for (int k = 0; k < n.value; k++)
        if (const float s = score(v[k]); s > -infinity()) body(s, i + k);
    });
  }
};

/** The sum of `mine` over the threads before this one; all threads call it. */
DEVICE Mass before(Mass mine) {
  __shared__ Mass warps[THREADS / WARP];
  const int lane = threadIdx.x % WARP, warp = threadIdx.x / WARP;
  Mass sum = mine;
#pragma unroll
  for (int apart = 1; apart < WARP; apart *= 2) {
    const Mass other = __shfl_up_sync(ALL_LANES, sum, apart);
    if (lane >= apart) sum += other;
  }
  __syncthreads();  // the last call's readers are done
  if (lane == WARP - 1) warps[warp] = sum;
  __syncthreads();
  Mass start = 0;
  for (int w = 0; w < warp; w++) start += warps[w];
  return start + sum - mine;
}

__shared__ unsigned counts[BINS];
__shared__ unsigned low[BINS], high[BINS];  // masses of the bins in two halves: adding 64 bits at once is slow
__shared__ Key list[LIST];
__shared__ Mass weights[THREADS];
__shared__ int listed;
__shared__ int found;
__shared__ Mass above;  // weight of the bins before the one found
__shared__ Key bound;

DEVICE Mass countOf(int bin) { return counts[bin]; }
DEVICE Mass massOfBin(int bin) { return Mass(high[bin]) << 32 | low[bin]; }

/** Sums up the masses of bins, and of everything. */
DEVICE Mass weigh(const Row &row) {
  for (int b = threadIdx.x; b < BINS; b += THREADS) low[b] = high[b] = 0;
  __syncthreads();
  Mass sum = 0;
  row.forEach([&](float s, i64) {
    const int b = row.bin(s);
    const Mass mass = b < BINS ? row.mass(s) : 0;
    if (mass == 0) return;
    sum += mass;
    const unsigned part = unsigned(mass), carry = atomicAdd(low + b, part) + part < part;
    if (const unsigned rest = unsigned(mass >> 32) + carry) atomicAdd(high + b, rest);
  });
  return acrossBlock<Total>(sum);
}

/** Finds the bin in which the sum of weights, from the first bin on, reaches `goal`; false where it never does. */
template <class Of> DEVICE bool findBin(const Of &of, double goal) {
  const Mass first = of(2 * threadIdx.x), second = of(2 * threadIdx.x + 1), start = before(first + second);
  if (threadIdx.x == 0) found = -1;
  __syncthreads();
  const auto reaches = [&](Mass from, Mass weight) { return double(from) < goal && double(from + weight) >= goal; };
  const bool one = reaches(start, first), two = reaches(start + first, second);
  if (one || two) {
    found = 2 * threadIdx.x + (one ? 0 : 1);
    above = one ? start : start + first;
  }
  __syncthreads();
  return found >= 0;
}

/** Puts the keys from `least` on of bins into the list, as far as there is room: those from `first` to the one that was found. */
DEVICE void gather(const Row &row, int first, Key least) {
  if (threadIdx.x == 0) listed = 0;
  __syncthreads();
  row.forEach([&](float s, i64 id) {
    const int b = row.bin(s);
    if (b < first || b > found) return;
    const Key key = Row::key(s, id);
    if (key < least) return;
    const int at = atomicAdd(&listed, 1);
    if (at < LIST) list[at] = key;
  });
  __syncthreads();
}

/** The largest key such that the keys from it on weigh at least `goal`, bit by bit. */
template <class Weight> DEVICE Key bisect(const Row &row, double goal, const Weight &weight) {
  Key key = 0;
  for (int bit = 63; bit >= 0; bit--) {
    const Key next = key | Key(1) << bit;
    Mass sum = 0;
    row.forEach([&](float s, i64 id) {
      const Key other = Row::key(s, id);
      if (other >= next) sum += weight(other);
    });
    if (double(acrossBlock<Total>(sum)) >= goal) key = next;
  }
  return key;
}

/** The same with the help of bins: among the keys of the list where they fit. No key where everything weighs less. */
template <class Of, class Weight>
DEVICE Key lastNeeded(const Row &row, const Of &of, double goal, Key least, const Weight &weight) {
  if (!findBin(of, goal)) return least;
  gather(row, found, least);
  if (listed > LIST) {
    const auto within = [&](Key key) { return key >= least ? weight(key) : 0; };
    return bisect(row, goal, within);
  }
  for (int i = threadIdx.x; i < listed; i += THREADS) {
    const Key key = list[i];
    Mass sum = above;
    for (int j = 0; j < listed; j++)
      if (list[j] > key) sum += weight(list[j]);
    if (double(sum) < goal && double(sum + weight(key)) >= goal) bound = key;
  }
  __syncthreads();
  return bound;
}

/** Settings of a call, and the uniform number of a row. */
struct Settings {
  float topK, topP, minP;
  double u;

  /** Up to where the masses must add up: the largest number that is not beyond u of them. */
  DEVICE Mass aim(Mass total) const {
    const Mass aim = Mass(u * double(total));
    return aim < total ? aim : total - 1;
  }
};

/** Draws among the elements of the list, one for each thread, which hold everything that top_k or top_p leave. */
DEVICE void drawFromList(const Row &row, const Settings &o, bool limited, Mass total, int *chosen) {
  const Key key = threadIdx.x < listed ? list[threadIdx.x] : 0;
  const Mass mass = key ? row.massOf(key) : 0;
  weights[threadIdx.x] = mass;
  __syncthreads();
  bool kept = key != 0;
  if (limited) {
    unsigned larger = 0;
    for (int j = 0; j < listed; j++) larger += list[j] >> 32 > key >> 32;
    kept = kept && float(larger) < o.topK;
    total = acrossBlock<Total>(kept ? mass : 0);
  }
  if (o.topP < 1) {
    Mass sum = 0;
    for (int j = 0; j < listed; j++)
      if (list[j] > key) sum += weights[j];
    kept = kept && double(sum) < fmax(1.0, double(o.topP) * double(total));
  }
  kept = kept && row.share(key) >= o.minP;
  const Mass own = kept ? mass : 0;
  __syncthreads();
  weights[threadIdx.x] = own;
  const Mass aim = o.aim(acrossBlock<Total>(own));
  Mass start = 0;
  for (int j = 0; j < listed; j++)
    if (unsigned(list[j]) < unsigned(key)) start += weights[j];
  if (kept && start <= aim && aim < start + own) *chosen = int(unsigned(key));
}

}  // namespace

extern "C" __global__ void __launch_bounds__(THREADS)
sample_token(const T *logits, const float *options, const int *position, const int *words, int *chosen, i64 R, i64 V,
             i64 C) {
  const i64 r = blockIdx.x;
  Row row{logits + r * V, V, V % VECTOR == 0 && aligned(logits), options[0], 0};
  const i64 at = 2 * (r * C + (position[r] < C ? position[r] : C - 1));
  const double upper = unsigned(words[at]) >> 6, lower = unsigned(words[at + 1]) >> 6;
  const Settings o{options[1], options[2], options[3], (upper * 67108864.0 + lower + 0.5) / 4503599627370496.0};
  float most = -infinity();
  row.forEach([&](float s, i64) { most = fmaxf(most, s); });
  row.most = acrossBlock<Largest>(most);
  if (threadIdx.x == 0) {
    chosen[r] = 0;
    bound = 0;
  }

  const bool limited = o.topK > 0 && o.topK < V;
  Key least = 0;
  if (limited || o.topP < 1) {
    Mass total = 0;
    if (limited) {
      for (int b = threadIdx.x; b < BINS; b += THREADS) counts[b] = 0;
      __syncthreads();
      row.forEach([&](float s, i64) {
        if (const int b = row.bin(s); b < BINS) atomicAdd(counts + b, 1u);
      });
      __syncthreads();
    } else total = weigh(row);
    if (limited ? findBin(countOf, o.topK) : findBin(massOfBin, fmax(1.0, double(o.topP) * double(total)))) {
      gather(row, 0, 0);
      if (listed <= LIST) {
        drawFromList(row, o, limited, total, chosen + r);
        return;
      }
    }
    if (limited) {
      const auto one = [](Key) { return Mass(1); };
      least = lastNeeded(row, countOf, o.topK, 0, one) >> 32 << 32;  // those that equal the last one are in
    }
    if (o.topP < 1) {
      Mass sum = 0;
      row.forEach([&](float s, i64 id) {
        if (Row::key(s, id) >= least) sum += row.mass(s);
      });
      if (limited) {
        weigh(row);
        total = acrossBlock<Total>(sum);
      }
      const auto massOf = [&](Key key) { return row.massOf(key); };
      least = lastNeeded(row, massOfBin, fmax(1.0, double(o.topP) * double(total)), least, massOf);
    }
  }

  // A thread adds up a run of neighbours, so that the threads' sums are in the order of ids.
  const i64 run = (V + THREADS - 1) / THREADS, start = threadIdx.x * run, end = start + run < V ? start + run : V;
  const auto kept = [&](i64 i) -> Mass {
    const float s = row.score(float(row.logits[i]));
    return s > -infinity() && Row::key(s, i) >= least && expf(s - row.most) >= o.minP ? row.mass(s) : 0;
  };
  Mass mine = 0;
  for (i64 i = start; i < end; i++) mine += kept(i);
  const Mass aim = o.aim(acrossBlock<Total>(mine));
  Mass sum = before(mine);
  if (sum <= aim && aim < sum + mine)
    for (i64 i = start; i < end; i++) {
      sum += kept(i);
      if (sum > aim) {
        chosen[r] = int(i);
        break;
      }
    }
}
