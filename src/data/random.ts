/**
 * Seeded random numbers of the data pipeline. A generator is started from (seed, stream, counter), so that what is
 * drawn for the n-th document, piece or denoiser depends on nothing drawn before it: any position can be resumed.
 *
 *   numbers      sfc32 (Doty-Humphrey, PractRand), 15 rounds of warm-up
 *   permutation  Feistel network of six rounds over the next power of four, walked until it falls inside (Black and
 *                Rogaway, 2002): the order of an epoch without a table
 */

/** What a draw is for: two purposes never share their numbers. */
export const STREAMS = { order: 1, denoiser: 2, mask: 3 } as const;

/** The 32-bit finalizer of MurmurHash3. */
function mix(x: number): number {
  x = Math.imul(x ^ (x >>> 16), 0x85ebca6b);
  x = Math.imul(x ^ (x >>> 13), 0xc2b2ae35);
  return (x ^ (x >>> 16)) | 0;
}

const high = (x: number): number => Math.floor(x / 2 ** 32) | 0;

export class Random {
  private a = 0;
  private b = 0;
  private c = 0;
  private d = 0;

  /** Starts the sequence of (seed, stream, counter); seed and counter are integers in [0, 2^53). */
  start(seed: number, stream: number, counter: number): this {
    this.a = mix((seed | 0) ^ Math.imul(stream, 0x9e3779b1));
    this.b = mix((counter | 0) ^ 0x243f6a88);
    this.c = mix(high(counter) + Math.imul(high(seed), 0x01000193) + 0x13198a2e);
    this.d = 1;
    for (let round = 0; round < 15; round++) this.next();
    return this;
  }

  /** Uniform in [0, 2^32). */
  next(): number {
    const t = (((this.a + this.b) | 0) + this.d) | 0;
    this.d = (this.d + 1) | 0;
    this.a = this.b ^ (this.b >>> 9);
    this.b = (this.c + (this.c << 3)) | 0;
    this.c = (((this.c << 21) | (this.c >>> 11)) + t) | 0;
    return t >>> 0;
  }

  /** Uniform in [0, n) for 0 < n <= 2^21, where the bias is below 2^-11 of a probability. */
  below(n: number): number {
    return Math.floor((this.next() / 2 ** 32) * n);
  }
}

/** The pseudo-random permutation of [0, n) that belongs to (seed, counter); n < 2^32. */
export function permutation(n: number, seed: number, counter: number): (index: number) => number {
  const half = Math.max(1, Math.ceil(Math.log2(Math.max(2, n)) / 2));
  const mask = 2 ** half - 1;
  const random = new Random().start(seed, STREAMS.order, counter);
  const keys = Int32Array.from({ length: 6 }, () => random.next());
  return (index) => {
    let x = index;
    do {
      let left = Math.floor(x / 2 ** half);
      let right = x % 2 ** half;
      for (const key of keys) {
        const next = left ^ (mix(right ^ key) & mask);
        left = right;
        right = next;
      }
      x = left * 2 ** half + right;
    } while (x >= n);
    return x;
  };
}
