/** bfloat16 on the host: the upper 16 bits of a float32, rounded to nearest even. */

const float = new Float32Array(1);
const bits = new Uint32Array(float.buffer);

/** Bits of the bfloat16 nearest to x. NaN stays NaN. */
export function bfloat16Bits(x: number): number {
  float[0] = x;
  const u = bits[0]!;
  if (Number.isNaN(x)) return (u >>> 16) | 0x40;
  return ((u + 0x7fff + ((u >>> 16) & 1)) >>> 16) & 0xffff;
}

export function fromBfloat16Bits(b: number): number {
  bits[0] = b << 16;
  return float[0]!;
}

/** The bfloat16 nearest to x, as a number. */
export const roundToBfloat16 = (x: number): number => fromBfloat16Bits(bfloat16Bits(x));

export const toBfloat16 = (values: ArrayLike<number>): Uint16Array => Uint16Array.from(values, bfloat16Bits);
export const fromBfloat16 = (values: Uint16Array): Float32Array => Float32Array.from(values, fromBfloat16Bits);
