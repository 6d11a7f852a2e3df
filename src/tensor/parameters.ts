/**
 * All parameters of a model in one allocation, the gradients of those that are trained in another, in the same layout, so
 * that an optimizer is one launch over flat memory. Each parameter is its original Hugging Face matrix; it starts at a multiple
 * of ALIGNMENT elements and the gap behind it stays zero. Matrices in int8, with a scale per row, lie apart: they are read only.
 */
import type { Backend, DType, FloatType } from '../backend/backend.ts';
import { UsageError } from '../util/errors.ts';
import { markParameter } from './autograd.ts';
import { elements, Tensor } from './tensor.ts';

/** Elements: every parameter starts at a multiple of this. */
export const ALIGNMENT = 64;

/** A parameter before it has a place. */
export interface ParameterShape {
  name: string;
  shape: readonly number[];
}

/** Where a parameter lies in the flat memory, in elements. */
export interface ParameterPlace extends ParameterShape {
  offset: number;
  length: number;
}

/** Elements that a parameter takes with the gap behind it. */
export const alignedLength = (length: number): number => Math.ceil(length / ALIGNMENT) * ALIGNMENT;

/** Places one behind the other, and the length of all. */
export function layOut<S extends { shape: readonly number[] }>(
  shapes: readonly S[],
): { places: (S & { offset: number; length: number })[]; length: number } {
  let end = 0;
  const places = shapes.map((shape) => {
    const place = { ...shape, offset: end, length: elements(shape.shape) };
    end += alignedLength(place.length);
    return place;
  });
  return { places, length: end };
}

/** The stretch of flat memory from the first trained parameter to the last: what an optimizer works on. */
export interface TrainedPart {
  readonly backend: Backend;
  readonly dtype: FloatType;
  readonly values: Tensor;
  /** f32, as long as `values`; zero where a parameter in between is not trained. */
  readonly gradients: Tensor;
  /** The trained parameters, where they lie in these two. */
  readonly places: readonly ParameterPlace[];
}

/** A model's parameters and their gradients. */
export class Parameters {
  readonly backend: Backend;
  readonly dtype: FloatType;
  readonly places: readonly ParameterPlace[];
  /** Every value [N], N a multiple of ALIGNMENT. */
  readonly values: Tensor;
  /** Gradients of what became trainable at one time, from the first such parameter to the last, and where that begins. */
  private stretches: { gradients: Tensor; start: number }[] = [];
  /** Stretches that were joined: recorded launches may still know them. */
  private readonly former: Tensor[] = [];
  /** The int8 matrices' values and scales, where there are some. */
  readonly int8: { values: Tensor; scales: Tensor } | undefined;
  private readonly byName = new Map<string, Tensor>();

  /** @param matrices [O,I] parameters that are to be in int8 */
  constructor(
    backend: Backend,
    dtype: FloatType,
    shapes: readonly ParameterShape[],
    matrices: readonly ParameterShape[] = [],
  ) {
    this.backend = backend;
    this.dtype = dtype;
    const { places, length } = layOut(shapes);
    this.places = places;
    this.values = zeros(backend, dtype, length);
    for (const { name, shape, offset, length: count } of places)
      this.byName.set(name, this.values.part(offset, count).view(...shape));
    if (matrices.length === 0) return;
    const values = layOut(matrices);
    const scales = layOut(matrices.map(({ name, shape }) => ({ name, shape: [shape[0]!] })));
    this.int8 = { values: zeros(backend, 'i8', values.length), scales: zeros(backend, 'f32', scales.length) };
    for (const [i, { name, shape, offset, length: count }] of values.places.entries()) {
      const matrix = this.int8.values.part(offset, count).view(...shape);
      matrix.scales = this.int8.scales.part(scales.places[i]!.offset, scales.places[i]!.length);
      this.byName.set(name, matrix);
    }
  }

  /** The parameter of a name. @throws UsageError listing near names */
  get(name: string): Tensor {
    const tensor = this.byName.get(name);
    if (!tensor)
      throw new UsageError(`parameters: no "${name}" among ${this.places.length} (${this.places[0]?.name}, …)`);
    return tensor;
  }

  has(name: string): boolean {
    return this.byName.has(name);
  }

  /**
   * Gives every parameter that `wanted` accepts a gradient buffer; those that have one keep it.
   * @throws UsageError if some are in int8
   */
  trainable(wanted: (name: string) => boolean = () => true): void {
    if (this.int8) throw new UsageError('parameters: weights in int8 cannot be trained, expected float32 or bfloat16');
    const added = this.places.filter(({ name }) => wanted(name) && !this.get(name).grad);
    if (added.length > 0) this.stretches.push(this.stretchOver(added));
  }

  /** Gradients for some places, which need not lie side by side. */
  private stretchOver(places: readonly ParameterPlace[]): { gradients: Tensor; start: number } {
    const [first, last] = [places[0]!, places.at(-1)!];
    const start = first.offset;
    const gradients = zeros(this.backend, 'f32', last.offset + alignedLength(last.length) - start);
    for (const { name, shape, offset, length } of places)
      markParameter(this.get(name), gradients.part(offset - start, length).view(...shape));
    return { gradients, start };
  }

  /** What is trained, in one stretch; undefined if nothing is. */
  trained(): TrainedPart | undefined {
    const { backend, dtype } = this;
    const chosen = this.places.filter(({ name }) => this.get(name).grad);
    if (this.stretches.length > 1) {
      this.former.push(...this.stretches.map(({ gradients }) => gradients));
      this.stretches = [this.stretchOver(chosen)];
    }
    const [stretch] = this.stretches;
    if (!stretch) return undefined;
    const { gradients, start } = stretch;
    const places = chosen.map((place) => ({ ...place, offset: place.offset - start }));
    return { backend, dtype, places, gradients, values: this.values.part(start, gradients.length) };
  }

  /** Makes the next gradient of every parameter replace what is there. */
  zeroGradients(): void {
    for (const tensor of this.byName.values()) tensor.gradWritten = false;
  }

  /** Zero-fills the gradients that nothing wrote since `zeroGradients`, so that flat launches read no stale ones. */
  finishGradients(): void {
    for (const tensor of this.byName.values())
      if (tensor.grad && !tensor.gradWritten) {
        this.backend.zero(tensor.grad.memory);
        tensor.gradWritten = true;
      }
  }

  dispose(): void {
    this.backend.free(this.values.memory.base);
    const gradients = [...this.former, ...this.stretches.map((stretch) => stretch.gradients)];
    for (const tensor of [...gradients, this.int8?.values, this.int8?.scales])
      if (tensor) this.backend.free(tensor.memory.base);
  }
}

/** A zero vector that no scope owns: it lives until it is disposed of. */
export function zeros(backend: Backend, dtype: DType, length: number): Tensor {
  const tensor = new Tensor(backend, backend.alloc(dtype, length), [length]);
  backend.zero(tensor.memory);
  return tensor;
}
