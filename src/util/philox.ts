/**
 * Philox4x32-10: random words as a pure function of a counter and a key, so that a backward pass can draw the same
 * ones again on any device and with any number of threads.
 *
 * Dropout's layout: key (seed, site); element e of a tensor takes lane e mod 4 of counter (e/4 low, e/4 high, step, 0).
 *
 * Source: Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3", SC11.
 */

type Words4 = readonly [number, number, number, number];

const MULTIPLIER_0 = 0xd2511f53;
const MULTIPLIER_1 = 0xcd9e8d57;

/** Four uniform 32-bit words for a counter of four words and a key of two. */
export function philox4x32(counter: Words4, key: readonly [number, number]): Words4 {
  const words = new Uint32Array(4);
  philoxInto(words, ...counter, ...key);
  return [words[0]!, words[1]!, words[2]!, words[3]!];
}

/** The same words written to `words`, for loops that must not allocate. */
export function philoxInto(
  words: Uint32Array,
  c0: number,
  c1: number,
  c2: number,
  c3: number,
  k0: number,
  k1: number,
): void {
  for (let round = 0; round < 10; round++) {
    const high0 = highProduct(c0, MULTIPLIER_0);
    const high1 = highProduct(c2, MULTIPLIER_1);
    const low0 = Math.imul(c0, MULTIPLIER_0);
    const low1 = Math.imul(c2, MULTIPLIER_1);
    c0 = high1 ^ c1 ^ k0;
    c1 = low1;
    c2 = high0 ^ c3 ^ k1;
    c3 = low0;
    k0 = (k0 + 0x9e3779b9) | 0;
    k1 = (k1 + 0xbb67ae85) | 0;
  }
  words[0] = c0;
  words[1] = c1;
  words[2] = c2;
  words[3] = c3;
}

/** Upper 32 bits of the product of two unsigned words: in halves, since doubles hold 53 bits. */
function highProduct(a: number, b: number): number {
  const u = a >>> 0;
  const low = Math.floor((u * (b & 0xffff)) / 0x10000);
  return ((u * (b >>> 16) + low) / 0x10000) | 0;
}

/** The factor dropout applies to element e: 0 for a share `rate` in [0,1) of the elements, 1/(1-rate) for the others. */
export function dropoutFactor(rng: ArrayLike<number>, site: number, e: number, rate: number): number {
  const block = Math.floor(e / 4);
  const counter = [block >>> 0, Math.floor(block / 2 ** 32), rng[1]!, 0] as const;
  const word = philox4x32(counter, [rng[0]!, site])[e % 4]!;
  const r = Math.fround(rate); // kernels get the rate as float32
  return word >= Math.floor(r * 2 ** 32) ? 1 / (1 - r) : 0;
}
