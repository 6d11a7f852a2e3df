/** Weights files as memory of the device that computes, where it can map files: nothing is copied before it is used. */
import type { Backend, MappedFile, Memory } from '../backend/backend.ts';
import type { DType, FloatType } from '../backend/dtype.ts';
import type { Lent } from '../tensor/parameters.ts';
import { isEmbedding } from './parameter_table.ts';
import { type TensorFile, type TensorsOnDisk, type TensorType, tensorTypes } from './tensors_on_disk.ts';

/** Types of files that a device may hold. */
const floatTypes: Partial<Record<TensorType, FloatType>> = { F32: 'f32', BF16: 'bf16', F16: 'f16' };

/**
 * Elements of a tensor that is worth using where it lies: with a norm's scales the system would keep up to 2 MB of the file
 * around them, which counts where the large matrices beside them are converted.
 */
const LEAST_LENT = 4096;

/** A tensor where its file is mapped. */
export interface MappedTensor {
  file: MappedFile;
  memory: Memory;
}

/** The files of some weights, mapped as they are needed. */
export class MappedWeights {
  private readonly backend: Backend;
  private readonly weights: TensorsOnDisk;
  private readonly files = new Map<TensorFile, MappedFile | undefined>();

  constructor(backend: Backend, weights: TensorsOnDisk) {
    this.backend = backend;
    this.weights = weights;
  }

  /** A tensor as it lies in its file; undefined where the device cannot have it so. */
  tensor(name: string): MappedTensor | undefined {
    const { dtype, length, position } = this.weights.entry(name);
    const type = floatTypes[dtype];
    if (!this.backend.map || !type || length === 0 || position % tensorTypes[dtype] !== 0) return undefined;
    const file = this.weights.fileOf(name);
    if (!file) return undefined;
    if (!this.files.has(file)) this.files.set(file, this.backend.map(file.descriptor, file.bytes));
    const mapped = this.files.get(file);
    return mapped && { file: mapped, memory: mapped.at(type, position, length) };
  }

  /**
   * The parameters that need no memory of their own, undefined if all do: those that their files (`sources`) hold in the types
   * that are wanted and that are not small, and those that share a tensor with another one.
   */
  lend(wanted: ReadonlyMap<string, DType>, sources: ReadonlyMap<string, string | undefined>): Lent | undefined {
    if (!this.backend.map) return undefined;
    const memories = new Map<string, Memory>();
    const aliases = new Map<string, string>();
    const first = new Map<string, string>(); // the first parameter of a source and type
    for (const [name, source] of sources) {
      if (source === undefined) continue;
      const dtype = wanted.get(name);
      const use = `${dtype} ${source}`;
      const other = first.get(use);
      if (other !== undefined) aliases.set(name, other);
      first.set(use, other ?? name);
      const { dtype: written, length } = this.weights.entry(source);
      if (other !== undefined || length < LEAST_LENT || floatTypes[written] !== dtype) continue;
      const mapped = this.tensor(source);
      if (!mapped) continue;
      memories.set(name, mapped.memory);
      if (!isEmbedding(name)) mapped.file.expect(mapped.memory); // of embeddings few rows are read
    }
    if (memories.size + aliases.size === 0) return undefined;
    return { memories, aliases, close: () => this.close() };
  }

  close(): void {
    for (const file of this.files.values()) file?.close();
    this.files.clear();
  }
}
