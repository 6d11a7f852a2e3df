/**
 * All parameters of a model in one allocation, the gradients of those that are trained in another, in the same layout, so
 * that an optimizer is one launch over flat memory. Each parameter is its original Hugging Face matrix; it starts at a multiple
 * of ALIGNMENT elements and the gap behind it stays zero.
 *
 * What is not trained may lie elsewhere. Parameters that a weights file holds in the type that is computed with are used
 * where the file is mapped, until something asks for flat memory. Matrices of a smaller type than the rest (int8 and
 * float8 with a scale per row, float16) lie apart: they are read only.
 */
import type { Backend, Memory } from '../backend/backend.ts';
import type { DType, FloatType } from '../backend/dtype.ts';
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

/** Types of matrices that lie apart. */
export type CompactType = 'i8' | 'f8' | 'f16';
const compactNames: Record<CompactType, string> = { i8: 'int8', f8: 'float8', f16: 'float16' };

/** Parameters that are not in flat memory, and what becomes of those that are. */
export interface Elsewhere {
  /** Every parameter will be written: memory is not zeroed first, but for the gaps. */
  written?: true;
  /** [O,I] matrices of a type of their own. */
  compact?: { dtype: CompactType; matrices: readonly ParameterShape[] } | undefined;
  lent?: Lent | undefined;
}

/** Memory of others that holds parameters already. */
export interface Lent {
  memories: ReadonlyMap<string, Memory>;
  /** Parameters that take the memory of another one, whose values they share until they are trained. */
  aliases: ReadonlyMap<string, string>;
  /** Ends all of it. */
  close(): void;
}

/** Gradients of some places. */
interface Stretch {
  gradients: Tensor;
  start: number;
  places: readonly ParameterPlace[];
}

/** Matrices that lie together, as one tensor. */
interface Group {
  tensor: Tensor;
  places: readonly ParameterPlace[];
}

/** Makes a group a parameter if its members' gradients are all in a stretch. */
function markGroup({ tensor, places: members }: Group, { gradients, start, places }: Stretch): void {
  if (members.every((place) => places.includes(place)))
    markParameter(tensor, gradients.part(members[0]!.offset - start, tensor.length).view(...tensor.shape));
}

/** A model's parameters and their gradients. */
export class Parameters {
  readonly backend: Backend;
  readonly dtype: FloatType;
  readonly places: readonly ParameterPlace[];
  /** Gradients of what became trainable at one time, from the first such parameter to the last, and where that begins. */
  private stretches: Stretch[] = [];
  /** Stretches that were joined: recorded launches may still know them. */
  private readonly former: Tensor[] = [];
  /** The type of matrices that lie apart, where there are some. */
  readonly compact: CompactType | undefined;
  private readonly byName = new Map<string, Tensor>();
  /** What `group` gave, by names. */
  private readonly groups = new Map<string, Group>();
  /** Flat memory: of every value, or of those that are not lent. */
  private flat: Tensor;
  private readonly apart: Tensor[] = [];
  /** Where matrices with scales and these scales lie in `apart`. */
  private readonly apartPlaces: (readonly ParameterPlace[])[] = [];
  private lent: Lent | undefined;
  private readonly written: boolean;

  constructor(
    backend: Backend,
    dtype: FloatType,
    shapes: readonly ParameterShape[],
    { compact, lent, written }: Elsewhere = {},
  ) {
    this.written = written === true;
    this.backend = backend;
    this.dtype = dtype;
    this.places = layOut(shapes).places;
    this.compact = compact?.dtype;
    this.lent = lent;
    this.flat = this.place(dtype, shapes);
    if (!compact) return;
    const { matrices } = compact;
    this.apart.push(this.place(compact.dtype, matrices));
    if (compact.dtype === 'f16') return;
    const scales = layOut(matrices.map(({ name, shape }) => ({ name, shape: [shape[0]!] })));
    const all = zeros(backend, 'f32', scales.length);
    this.apart.push(all);
    this.apartPlaces.push(layOut(matrices).places, scales.places);
    for (const { name, offset, length } of scales.places) this.get(name).scales = all.part(offset, length);
  }

  /** Parameters with memory: what is lent, or a place in new flat memory, which is returned. */
  private place(dtype: DType, shapes: readonly ParameterShape[]): Tensor {
    const lentOf = ({ name }: ParameterShape) => this.lent?.memories.get(name);
    const isAlias = ({ name }: ParameterShape) => this.lent?.aliases.has(name) ?? false;
    const { places, length } = layOut(shapes.filter((parameter) => !lentOf(parameter) && !isAlias(parameter)));
    const flat = this.written ? gapsZero(this.backend, dtype, places, length) : zeros(this.backend, dtype, length);
    const own = new Map(places.map(({ name, offset, length }) => [name, flat.part(offset, length).memory]));
    for (const parameter of shapes) {
      const { name, shape } = parameter;
      const alias = this.lent?.aliases.get(name);
      const memory = alias === undefined ? (lentOf(parameter) ?? own.get(name)!) : this.get(alias).memory;
      this.byName.set(name, new Tensor(this.backend, memory, shape));
    }
    return flat;
  }

  /**
   * Every value [N], N a multiple of ALIGNMENT. What is lent is copied the first time.
   * @throws UsageError if matrices lie apart
   */
  get values(): Tensor {
    this.gather();
    return this.flat;
  }

  /** Moves all parameters into flat memory, if some are lent. */
  private gather(): void {
    if (this.compact)
      throw new UsageError(
        `parameters: weights in ${compactNames[this.compact]} cannot be trained here, expected float32 or bfloat16`,
      );
    if (!this.lent) return;
    const { places, length } = layOut(this.places);
    const all = zeros(this.backend, this.dtype, length);
    for (const { name, offset, length } of places) {
      const tensor = this.get(name);
      tensor.forgetDerived();
      const { memory } = all.part(offset, length);
      this.backend.convert!(memory, tensor.memory);
      tensor.memory = memory;
    }
    this.backend.free(this.flat.memory.base);
    this.flat = all;
    this.lent.close();
    this.lent = undefined;
  }

  /** The parameter of a name. @throws UsageError listing near names */
  get(name: string): Tensor {
    const tensor = this.byName.get(name);
    if (!tensor)
      throw new UsageError(`parameters: no "${name}" among ${this.places.length} (${this.places[0]?.name}, …)`);
    return tensor;
  }

  /**
   * Matrices [O,I] that lie one behind the other, with their scales where they have some, as [G,O,I]; undefined where they do not. Where all
   * of them are trained the group is a parameter too, whose gradient is theirs: a step uses it, or its members, not both.
   */
  group(names: readonly string[]): Tensor | undefined {
    const known = this.groups.get(names.join());
    if (known ?? this.lent) return known?.tensor;
    const found = together(this.flat, this.places, names);
    if (!found) return this.compactGroup(names);
    this.groups.set(names.join(), found);
    for (const stretch of this.stretches) markGroup(found, stretch);
    return found.tensor;
  }

  private compactGroup(names: readonly string[]): Tensor | undefined {
    const [matrices, scales] = this.apartPlaces.map((places, i) => together(this.apart[i]!, places, names)?.tensor);
    if (!matrices || !scales) return undefined;
    matrices.scales = scales;
    return matrices;
  }

  /** Every parameter by name. */
  get all(): ReadonlyMap<string, Tensor> {
    return this.byName;
  }

  /** Whether a parameter has its values from elsewhere: a file or another parameter. */
  isLent(name: string): boolean {
    return this.lent !== undefined && (this.lent.memories.has(name) || this.lent.aliases.has(name));
  }

  /** Whether this parameter's values lie in a file. */
  isLentTensor(tensor: Tensor): boolean {
    return this.lent !== undefined && [...this.lent.memories.values()].includes(tensor.memory);
  }

  has(name: string): boolean {
    return this.byName.has(name);
  }

  /** Where each tensor that `get` gives begins in `values`, in elements, unless matrices lie apart. */
  offsets(): Map<Tensor, number> {
    return new Map(this.places.map(({ name, offset }) => [this.get(name), offset]));
  }

  /**
   * Gives every parameter that `wanted` accepts a gradient buffer; those that have one keep it.
   * @throws UsageError if some are in a compact type
   */
  trainable(wanted: (name: string) => boolean = () => true): void {
    this.gather();
    const added = this.places.filter(({ name }) => wanted(name) && !this.get(name).grad);
    if (added.length > 0) this.stretches.push(this.stretchOver(added));
  }

  /** Whether some have a gradient. */
  get learning(): boolean {
    return this.stretches.length > 0;
  }

  /** Gradients for some places, which need not lie side by side. */
  private stretchOver(places: readonly ParameterPlace[]): Stretch {
    const [first, last] = [places[0]!, places.at(-1)!];
    const start = first.offset;
    const gradients = zeros(this.backend, 'f32', last.offset + alignedLength(last.length) - start);
    for (const { name, shape, offset, length } of places)
      markParameter(this.get(name), gradients.part(offset - start, length).view(...shape));
    const stretch = { gradients, start, places };
    for (const group of this.groups.values()) markGroup(group, stretch);
    return stretch;
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
    for (const { tensor } of this.groups.values()) tensor.gradWritten = false;
  }

  /** Zero-fills the gradients that nothing wrote since `zeroGradients`, so that flat launches read no stale ones. */
  finishGradients(): void {
    for (const { tensor, places } of this.groups.values())
      if (tensor.gradWritten) for (const { name } of places) this.get(name).gradWritten = true;
    for (const tensor of this.byName.values())
      if (tensor.grad && !tensor.gradWritten) {
        this.backend.zero(tensor.grad.memory);
        tensor.gradWritten = true;
      }
  }

  /** Gives everything back; a second time it does nothing. */
  dispose(): void {
    if (this.flat.memory.base.isFreed) return;
    const gradients = [...this.former, ...this.stretches.map((stretch) => stretch.gradients)];
    for (const tensor of this.byName.values()) tensor.forgetDerived();
    for (const tensor of [this.flat, ...gradients, ...this.apart]) this.backend.free(tensor.memory.base);
    this.lent?.close();
    this.lent = undefined;
  }
}

/** A zero vector that no scope owns: it lives until it is disposed of. */
export function zeros(backend: Backend, dtype: DType, length: number): Tensor {
  const tensor = new Tensor(backend, backend.alloc(dtype, length), [length]);
  backend.zero(tensor.memory);
  return tensor;
}

/** A vector like that of `zeros`, with undefined contents in its places. */
function gapsZero(
  backend: Backend,
  dtype: DType,
  places: readonly { offset: number; length: number }[],
  length: number,
): Tensor {
  const tensor = new Tensor(backend, backend.alloc(dtype, length), [length]);
  for (const place of places) {
    const gap = alignedLength(place.length) - place.length;
    if (gap > 0) backend.zero(tensor.part(place.offset + place.length, gap).memory);
  }
  return tensor;
}

/** Parameters that lie one behind the other in flat memory. */
function together(flat: Tensor, all: readonly ParameterPlace[], names: readonly string[]): Group | undefined {
  const places = names.map((name) => all.find((place) => place.name === name));
  const [first] = places;
  const follows = (place: ParameterPlace | undefined, g: number) =>
    first && String(place?.shape) === String(first.shape) && place?.offset === first.offset + g * first.length;
  if (!first || !places.every(follows)) return undefined;
  const tensor = flat.part(first.offset, names.length * first.length).view(names.length, ...first.shape);
  return { tensor, places: places as ParameterPlace[] };
}
