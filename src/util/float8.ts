/**
 * float8 on the host: e4m3 as GPUs have it, 1 sign, 4 exponent (bias 7) and 3 fraction bits, no infinities, largest number 448
 * (Micikevicius et al. 2022, arXiv:2209.05433).
 */
import { roundToEven } from './round.ts';

/** The largest number. */
export const FLOAT8_LARGEST = 448;
/** Distance of the numbers below 2^-6. */
const LEAST_STEP = 2 ** -9;
const NOT_A_NUMBER = 0x7f;

/** The number nearest to x, ties to even, infinities and what lies beyond the largest number to that. NaN stays. */
export function roundToFloat8(x: number): number {
  const size = Math.abs(x);
  if (!(size < FLOAT8_LARGEST)) return Number.isNaN(x) ? x : Math.sign(x) * FLOAT8_LARGEST;
  const step = float8Step(size);
  return Math.sign(x) * roundToEven(size / step) * step;
}

/** The distance of the numbers around x. */
export function float8Step(x: number): number {
  const size = Math.min(Math.abs(x), FLOAT8_LARGEST);
  return size < 2 ** -6 ? LEAST_STEP : 2 ** (Math.floor(Math.log2(size)) - 3);
}

/** The value of a number's bits. */
function fromFloat8Bits(bits: number): number {
  if ((bits & 0x7f) === NOT_A_NUMBER) return Number.NaN;
  const exponent = (bits >> 3) & 15;
  const fraction = bits & 7;
  return (bits & 0x80 ? -1 : 1) * (exponent ? (8 + fraction) * 2 ** (exponent - 10) : fraction * LEAST_STEP);
}

const values = Float32Array.from({ length: 256 }, (_, bits) => fromFloat8Bits(bits));
const bitsOf = new Map(Array.from(values.subarray(0, NOT_A_NUMBER), (value, bits) => [value, bits]));

/** Bits of the numbers nearest to some values. */
export const toFloat8 = (from: ArrayLike<number>): Uint8Array =>
  Uint8Array.from(from, (x) => {
    const rounded = roundToFloat8(x);
    return Number.isNaN(rounded)
      ? NOT_A_NUMBER
      : bitsOf.get(Math.abs(rounded))! | (x < 0 || Object.is(x, -0) ? 0x80 : 0);
  });

/** The values of numbers' bits. */
export const fromFloat8 = (bits: Uint8Array): Float32Array => Float32Array.from(bits, (b) => values[b]!);
