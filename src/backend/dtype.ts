/** The types of elements, and arrays on the host that hold them. */
import { fromBfloat16, roundToBfloat16, toBfloat16 } from '../util/bfloat16.ts';
import { fromFloat8, toFloat8 } from '../util/float8.ts';
import { fromFloat16, roundToFloat16, toFloat16 } from '../util/float16.ts';

/** Element types of memory. */
export type DType = 'f32' | 'bf16' | 'f16' | 'f8' | 'i32' | 'i8';
/** Compute types: what a kernel's T may be. */
export type FloatType = 'f32' | 'bf16' | 'f16';
/** Bytes of an element. */
export const bytesOf: Record<DType, number> = { f32: 4, bf16: 2, f16: 2, f8: 1, i32: 4, i8: 1 };

/** Host arrays as they cross the boundary; types of 16 bits and float8 travel as their bits. */
export type HostArray = Float32Array | Int32Array | Uint16Array | Uint8Array | Int8Array;

/** Host array for `length` elements of a type. */
export function hostArray(dtype: DType, length: number): HostArray {
  if (dtype === 'f32') return new Float32Array(length);
  if (dtype === 'i32') return new Int32Array(length);
  if (dtype === 'f8') return new Uint8Array(length);
  return dtype === 'i8' ? new Int8Array(length) : new Uint16Array(length);
}

/** Numbers as a type's host array: themselves where they already are, rounded where the type needs it. */
export function toHost(dtype: DType, values: ArrayLike<number>): HostArray {
  switch (dtype) {
    case 'f32':
      return values instanceof Float32Array ? values : Float32Array.from(values);
    case 'i32':
      return values instanceof Int32Array ? values : Int32Array.from(values);
    case 'i8':
      return values instanceof Int8Array ? values : Int8Array.from(values);
    case 'bf16':
      return toBfloat16(values);
    case 'f16':
      return toFloat16(values);
    case 'f8':
      return toFloat8(values);
  }
}

/** The numbers of a type's host array. */
export function fromHost(dtype: DType, host: HostArray): Float32Array | Int32Array {
  if (host instanceof Int8Array) return Int32Array.from(host);
  if (host instanceof Uint8Array) return fromFloat8(host);
  if (host instanceof Uint16Array) return dtype === 'f16' ? fromFloat16(host) : fromBfloat16(host);
  return host;
}

/** The number of a type nearest to x. */
export const roundTo: Record<FloatType, (x: number) => number> = {
  f32: Math.fround,
  bf16: roundToBfloat16,
  f16: roundToFloat16,
};
