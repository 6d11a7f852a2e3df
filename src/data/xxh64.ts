/** XXH64 with seed 0, the checksum of zstd frames (specification: Cyan4973/xxHash, doc/xxhash_spec.md). */

const P1 = 0x9e3779b185ebca87n;
const P2 = 0xc2b2ae3d27d4eb4fn;
const P3 = 0x165667b19e3779f9n;
const P4 = 0x85ebca77c2b2ae63n;
const P5 = 0x27d4eb2f165667c5n;

const u64 = (x: bigint): bigint => BigInt.asUintN(64, x);
const rotate = (x: bigint, n: bigint): bigint => u64(x << n) | (x >> (64n - n));
const round = (lane: bigint, word: bigint): bigint => u64(rotate(u64(lane + word * P2), 31n) * P1);

/** Low and high word of the last `multiply`. */
let low = 0;
let high = 0;

/** 64-bit product, modulo 2^64, of two numbers given by their halves: many times as fast as bigint. */
function multiply(aLow: number, aHigh: number, bLow: number, bHigh: number): void {
  const a0 = aLow & 0xffff;
  const a1 = aLow >>> 16;
  const b0 = bLow & 0xffff;
  const b1 = bLow >>> 16;
  const p00 = Math.imul(a0, b0) >>> 0;
  const p10 = Math.imul(a1, b0) >>> 0;
  const p01 = Math.imul(a0, b1) >>> 0;
  const middle = (p00 >>> 16) + (p10 & 0xffff) + (p01 & 0xffff);
  low = (p00 & 0xffff) | (middle << 16);
  high =
    (Math.imul(a1, b1) +
      (p10 >>> 16) +
      (p01 >>> 16) +
      (middle >>> 16) +
      Math.imul(aLow, bHigh) +
      Math.imul(aHigh, bLow)) |
    0;
}

const half = (x: bigint, shift: bigint): number => Number(BigInt.asIntN(32, x >> shift));
const [P1_LOW, P1_HIGH] = [half(P1, 0n), half(P1, 32n)];
const [P2_LOW, P2_HIGH] = [half(P2, 0n), half(P2, 32n)];

export class Xxh64 {
  /** Four lanes, halves low and high. */
  private readonly lanes = new Int32Array([P1 + P2, P2, 0n, -P1].flatMap((v) => [half(v, 0n), half(v, 32n)]));
  private readonly rest = new Uint8Array(32);
  private filled = 0;
  private bytes = 0;

  update(input: Uint8Array): void {
    this.bytes += input.length;
    let at = 0;
    if (this.filled > 0) {
      at = Math.min(32 - this.filled, input.length);
      this.rest.set(input.subarray(0, at), this.filled);
      this.filled += at;
      if (this.filled < 32) return;
      this.stripes(this.rest);
      this.filled = 0;
    }
    const whole = (input.length - at) & ~31;
    if (whole > 0) this.stripes(input.slice(at, at + whole)); // a copy of its own: aligned
    this.rest.set(input.subarray(at + whole));
    this.filled = input.length - at - whole;
  }

  private stripes(bytes: Uint8Array): void {
    const words = new Int32Array(bytes.buffer, bytes.byteOffset, bytes.length / 4);
    const { lanes } = this;
    for (let lane = 0; lane < 8; lane += 2) {
      let accLow = lanes[lane]!;
      let accHigh = lanes[lane + 1]!;
      for (let i = lane; i < words.length; i += 8) {
        multiply(words[i]!, words[i + 1]!, P2_LOW, P2_HIGH);
        const sum = (accLow >>> 0) + (low >>> 0);
        accLow = sum | 0;
        accHigh = (accHigh + high + (sum > 0xffffffff ? 1 : 0)) | 0;
        multiply((accLow << 31) | (accHigh >>> 1), (accHigh << 31) | (accLow >>> 1), P1_LOW, P1_HIGH);
        accLow = low;
        accHigh = high;
      }
      lanes[lane] = accLow;
      lanes[lane + 1] = accHigh;
    }
  }

  digest(): bigint {
    const lanes = [...new BigUint64Array(this.lanes.buffer)] as [bigint, bigint, bigint, bigint];
    let hash = P5;
    if (this.bytes >= 32) {
      hash = [1n, 7n, 12n, 18n].reduce((sum, n, i) => sum + rotate(lanes[i]!, n), 0n);
      for (const lane of lanes) hash = u64((u64(hash) ^ round(0n, lane)) * P1 + P4);
    }
    hash = u64(hash + BigInt(this.bytes));
    const view = new DataView(this.rest.buffer);
    let at = 0;
    for (; at + 8 <= this.filled; at += 8)
      hash = u64(rotate(hash ^ round(0n, view.getBigUint64(at, true)), 27n) * P1 + P4);
    for (; at + 4 <= this.filled; at += 4)
      hash = u64(rotate(hash ^ u64(BigInt(view.getUint32(at, true)) * P1), 23n) * P2 + P3);
    for (; at < this.filled; at++) hash = u64(rotate(hash ^ u64(BigInt(view.getUint8(at)) * P5), 11n) * P1);
    hash = u64((hash ^ (hash >> 33n)) * P2);
    hash = u64((hash ^ (hash >> 29n)) * P3);
    return hash ^ (hash >> 32n);
  }
}
