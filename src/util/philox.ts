/**
 * Philox4x32-10: random words as a pure function of a counter and a key, so that a backward pass can draw the same
 * ones again on any device and with any number of threads.
 *
 * Dropout's layout: key (seed, site); element e of a tensor takes lane e mod 4 of counter (e/4 low, e/4 high, step, 0).
 *
 * Source: Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3", SC11.
 */

type Words4 = readonly [number, number, number, number];

const MULTIPLIERS = [0xd2511f53n, 0xcd9e8d57n] as const;
const KEY_STEPS = [0x9e3779b9, 0xbb67ae85] as const;

/** Four uniform 32-bit words for a counter of four words and a key of two. */
export function philox4x32(counter: Words4, key: readonly [number, number]): Words4 {
  let [c0, c1, c2, c3] = counter;
  let [k0, k1] = key;
  for (let round = 0; round < 10; round++) {
    const p0 = MULTIPLIERS[0] * BigInt(c0 >>> 0);
    const p1 = MULTIPLIERS[1] * BigInt(c2 >>> 0);
    [c0, c1, c2, c3] = [high(p1) ^ c1 ^ k0, low(p1), high(p0) ^ c3 ^ k1, low(p0)];
    k0 += KEY_STEPS[0];
    k1 += KEY_STEPS[1];
  }
  return [c0 >>> 0, c1 >>> 0, c2 >>> 0, c3 >>> 0];
}

const low = (p: bigint) => Number(p & 0xffffffffn);
const high = (p: bigint) => Number(p >> 32n);

/** The factor dropout applies to element e: 0 for a share `rate` in [0,1) of the elements, 1/(1-rate) for the others. */
export function dropoutFactor(rng: ArrayLike<number>, site: number, e: number, rate: number): number {
  const block = Math.floor(e / 4);
  const counter = [block >>> 0, Math.floor(block / 2 ** 32), rng[1]!, 0] as const;
  const word = philox4x32(counter, [rng[0]!, site])[e % 4]!;
  const r = Math.fround(rate); // kernels get the rate as float32
  return word >= Math.floor(r * 2 ** 32) ? 1 / (1 - r) : 0;
}
