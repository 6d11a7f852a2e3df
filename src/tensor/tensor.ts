/** A tensor: contiguous row-major device memory with a shape. */
import type { Backend, Memory } from '../backend/backend.ts';
import { bytesOf, type DType, type HostArray, hostArray, toHost } from '../backend/dtype.ts';
import { BackendError, ShapeError } from '../util/errors.ts';
import { track } from './scope.ts';

/** The product of a shape. @throws ShapeError for what is no shape, or of more elements than a number can count */
export function elements(shape: readonly number[]): number {
  let count = 1;
  for (const size of shape) count = size >= 0 && Number.isInteger(size) ? count * size : Number.NaN;
  if (!Number.isSafeInteger(count))
    throw new ShapeError(`shape: is [${shape}], expected whole numbers from 0 on whose product is below 2^53`);
  return count;
}

/** Memory of a backend under a shape. */
export class Tensor {
  readonly backend: Backend;
  /** Where the numbers are. Changes only where a model's parameters move together (parameters.ts). */
  memory: Memory;
  readonly shape: readonly number[];
  /** True for parameters and for what was computed from them under a tape. */
  needsGrad = false;
  /** d(loss)/d(this), same shape: float32 for parameters, this tensor's type for activations. See autograd.ts. */
  grad: Tensor | undefined;
  /** False while the contents of a parameter's `grad` are stale, so that the next write replaces them. */
  gradWritten = false;
  /** What was made from the values for quick answers; gone as soon as they may change. */
  derived: { dispose(): void } | undefined;
  /** Of a matrix in int8 or float8: f32 [rows], what a 1 of each row is worth. */
  scales: Tensor | undefined;

  constructor(backend: Backend, memory: Memory, shape: readonly number[]) {
    if (memory.length !== elements(shape))
      throw new ShapeError(`Tensor: shape is [${shape}], expected one of the ${memory.length} elements of its memory`);
    this.backend = backend;
    this.memory = memory;
    this.shape = shape;
  }

  get dtype(): DType {
    return this.memory.dtype;
  }

  get length(): number {
    return this.memory.length;
  }

  /** Of the elements, and of the scales of a matrix in int8 or float8. */
  get bytes(): number {
    return this.length * bytesOf[this.dtype] + (this.scales?.bytes ?? 0);
  }

  /** Memory with undefined contents, freed by the innermost scope or tape. @throws ShapeError, BackendError if there is not so much */
  static empty(backend: Backend, dtype: DType, shape: readonly number[]): Tensor {
    return new Tensor(backend, track(backend, backend.alloc(dtype, elements(shape))), shape);
  }

  /** A copy of host values on the device. Float values are rounded to the type. @throws ShapeError, BackendError as `empty` */
  static from(backend: Backend, dtype: DType, shape: readonly number[], values: ArrayLike<number>): Tensor {
    const tensor = Tensor.empty(backend, dtype, shape);
    tensor.write(values);
    return tensor;
  }

  /** Replaces the contents; float values are rounded to the type. @throws ShapeError, BackendError if it was disposed of */
  write(values: ArrayLike<number>): void {
    if (values.length !== this.length)
      throw new ShapeError(`Tensor.write: ${values.length} values into [${this.shape}]`);
    if (this.memory.base.isFreed) throw this.disposedOf('Tensor.write: the tensor');
    this.forgetDerived();
    this.backend.write(this.memory, toHost(this.dtype, values));
  }

  forgetDerived(): void {
    this.derived?.dispose();
    this.derived = undefined;
  }

  /** Host copy in the tensor's own type (16-bit types as their bits). @throws BackendError if it was disposed of */
  async read(): Promise<HostArray> {
    if (this.memory.base.isFreed) throw this.disposedOf('Tensor.read: the tensor');
    const host = hostArray(this.dtype, this.length);
    await this.backend.read(this.memory, host);
    return host;
  }

  /** The error of using this tensor, whose memory was given back, as `what`. */
  disposedOf(what: string): BackendError {
    return new BackendError(
      `${what} [${this.shape}] was disposed of, expected one that is in use; keep it, or its model, until this is done`,
    );
  }

  /**
   * The same memory under another shape of as many elements. Not on the tape: use ops/reshape.ts where gradients flow.
   * @throws ShapeError
   */
  view(...shape: number[]): Tensor {
    return new Tensor(this.backend, this.memory, shape);
  }

  /** Elements [start, start + count) of the same memory, as a vector. Not on the tape either. @throws ShapeError */
  part(start: number, count: number): Tensor {
    const end = start + count;
    if (!(start >= 0 && count >= 0 && end <= this.length && Number.isInteger(start) && Number.isInteger(end)))
      throw new ShapeError(
        `Tensor.part: is [${start}, ${end}) of [${this.shape}], expected a range of its ${this.length} elements`,
      );
    return new Tensor(this.backend, this.memory.slice(start, count), [count]);
  }
}
