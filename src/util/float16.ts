/** IEEE half precision on the host: 1 sign, 5 exponent (bias 15) and 10 fraction bits. */

/** The value of a half's bits. */
function fromFloat16Bits(bits: number): number {
  const sign = bits & 0x8000 ? -1 : 1;
  const exponent = (bits >> 10) & 31;
  const fraction = bits & 0x3ff;
  if (exponent === 31) return fraction ? Number.NaN : sign * Number.POSITIVE_INFINITY;
  return sign * (exponent ? (1 + fraction / 1024) * 2 ** (exponent - 15) : fraction * 2 ** -24);
}

const float = new Float32Array(1);
const word = new Uint32Array(float.buffer);

/** Bits of the half nearest to x, ties to even; beyond 65504 infinity. NaN stays NaN. */
function float16Bits(x: number): number {
  float[0] = x;
  const u = word[0]!;
  const sign = (u >>> 16) & 0x8000;
  const magnitude = u & 0x7fffffff;
  if (magnitude > 0x7f800000) return sign | 0x7e00;
  if (magnitude >= 0x477ff000) return sign | 0x7c00; // 65520 and more round to infinity
  if (magnitude >= 0x38800000) {
    // Normal: the exponent's bias changes from 127 to 15, 13 fraction bits go.
    const rebiased = magnitude - 0x38000000;
    return sign | ((rebiased + 0xfff + ((rebiased >>> 13) & 1)) >>> 13);
  }
  // Subnormal: whole multiples of 2^-24, rounded to even.
  const scaled = Math.abs(float[0]!) * 2 ** 24;
  const floor = Math.floor(scaled);
  const rest = scaled - floor;
  return sign | (floor + (rest > 0.5 || (rest === 0.5 && floor % 2 === 1) ? 1 : 0));
}

/** The half nearest to x, as a number. */
export const roundToFloat16 = (x: number): number => fromFloat16Bits(float16Bits(x));

/** Bits of the halves nearest to some values. */
export function toFloat16(values: ArrayLike<number>): Uint16Array {
  const halves = new Uint16Array(values.length);
  for (let i = 0; i < halves.length; i++) halves[i] = float16Bits(values[i]!);
  return halves;
}

let table: Float32Array | undefined;

/** The values of halves. */
export function fromFloat16(values: Uint16Array): Float32Array {
  table ??= Float32Array.from({ length: 1 << 16 }, (_, bits) => fromFloat16Bits(bits));
  const floats = new Float32Array(values.length);
  for (let i = 0; i < floats.length; i++) floats[i] = table[values[i]!]!;
  return floats;
}
