/** bfloat16 on the host: the upper 16 bits of a float32, rounded to nearest even. */

const float = new Float32Array(1);
const bits = new Uint32Array(float.buffer);

/** Bits of the bfloat16 nearest to x. NaN stays NaN. */
function bfloat16Bits(x: number): number {
  float[0] = x;
  const u = bits[0]!;
  if (Number.isNaN(x)) return (u >>> 16) | 0x40;
  return ((u + 0x7fff + ((u >>> 16) & 1)) >>> 16) & 0xffff;
}

function fromBfloat16Bits(b: number): number {
  bits[0] = b << 16;
  return float[0]!;
}

/** The bfloat16 nearest to x, as a number. */
export const roundToBfloat16 = (x: number): number => fromBfloat16Bits(bfloat16Bits(x));

/** Whole arrays, in loops without calls: a model's weights pass through them. */
export function toBfloat16(values: ArrayLike<number>): Uint16Array {
  const exact = values instanceof Float32Array ? values : Float32Array.from(values);
  const words = new Uint32Array(exact.buffer, exact.byteOffset, exact.length);
  const rounded = new Uint16Array(exact.length);
  for (let i = 0; i < rounded.length; i++) {
    const u = words[i]!;
    const notANumber = (u & 0x7fffffff) > 0x7f800000;
    rounded[i] = notANumber ? (u >>> 16) | 0x40 : (u + 0x7fff + ((u >>> 16) & 1)) >>> 16;
  }
  return rounded;
}

/** The values of bfloat16s, as `toBfloat16` in a loop without calls. */
export function fromBfloat16(values: Uint16Array): Float32Array {
  const words = new Uint32Array(values.length);
  for (let i = 0; i < values.length; i++) words[i] = values[i]! << 16;
  return new Float32Array(words.buffer);
}
