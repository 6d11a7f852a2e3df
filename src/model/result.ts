/** Results as users see them: the shape of transformers.js's tensors. */
import { fromHost } from '../backend/dtype.ts';
import type { Tensor } from '../tensor/tensor.ts';

/** Numbers in arrays in arrays, one level per dimension. */
export type Nested = number | Nested[];

/** Values on the host, row-major. */
export interface ResultTensor {
  readonly dims: readonly number[];
  readonly type: 'float32' | 'int32';
  readonly data: Float32Array | Int32Array;
  /** The values as nested arrays, one level per dimension. */
  tolist(): Nested;
}

/** A device tensor's values on the host; 16-bit floats become float32. */
export async function toResult(tensor: Tensor): Promise<ResultTensor> {
  return resultTensor([...tensor.shape], fromHost(tensor.dtype, await tensor.read()));
}

/** Values on the host, row-major, under their dimensions. */
export function resultTensor(dims: readonly number[], data: Float32Array | Int32Array): ResultTensor {
  const type = data instanceof Float32Array ? 'float32' : 'int32';
  return { dims, type, data, tolist: () => nest(dims, data, 0, data.length) };
}

function nest(dims: readonly number[], data: Float32Array | Int32Array, start: number, length: number): Nested {
  const [first, ...rest] = dims;
  if (first === undefined) return data[start]!;
  return Array.from({ length: first }, (_, i) => nest(rest, data, start + (i * length) / first, length / first));
}
