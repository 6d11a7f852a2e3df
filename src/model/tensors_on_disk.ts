/** Named tensors in files, whatever the files' format: where each one's bytes lie, and reading them piece by piece. */
import { closeSync, fstatSync, openSync, readSync } from 'node:fs';
import { fromBfloat16 } from '../util/bfloat16.ts';
import { FormatError, UsageError } from '../util/errors.ts';
import { fromFloat16 } from '../util/float16.ts';

/** Types by safetensors' names, and the bytes of one element. */
export const tensorTypes = {
  F64: 8,
  F32: 4,
  F16: 2,
  BF16: 2,
  I64: 8,
  I32: 4,
  I16: 2,
  I8: 1,
  U8: 1,
  BOOL: 1,
} as const;
/** Types by safetensors' names. */
export type TensorType = keyof typeof tensorTypes;

/** One tensor of a file. */
export interface TensorEntry {
  dtype: TensorType;
  shape: readonly number[];
  /** Number of elements. */
  length: number;
  /** Where the first byte is in the file. */
  position: number;
}

/** Tensors that can be read by name: one file, or several that make up one model. */
export interface TensorsOnDisk {
  /** File or folder, for messages. */
  readonly path: string;
  readonly entries: ReadonlyMap<string, TensorEntry>;
  /** @throws FormatError if there is no such tensor */
  entry(name: string): TensorEntry;
  /** The file that has a tensor as it is; undefined if it is computed. @throws FormatError if there is no such tensor */
  fileOf(name: string): TensorFile | undefined;
  /** The bytes of elements [start, start + count) of a tensor, little-endian. @throws FormatError */
  readBytes(name: string, start?: number, count?: number): Uint8Array<ArrayBuffer>;
  /** Elements [start, start + count) of a float tensor as float32. @throws FormatError if it holds integers */
  readFloats(name: string, start?: number, count?: number): Float32Array;
  close(): void;
}

/** One open file. `readEntries` finds its tensors, trusting nothing that the file says. */
export class TensorFile implements TensorsOnDisk {
  readonly path: string;
  readonly entries: ReadonlyMap<string, TensorEntry>;
  /** How long the file was when it was checked. */
  readonly bytes: number;
  readonly descriptor: number;
  private isOpen = true;

  /** @throws UsageError if it cannot be opened, FormatError if it is damaged */
  constructor(path: string, readEntries: (path: string, descriptor: number) => ReadonlyMap<string, TensorEntry>) {
    this.path = path;
    try {
      this.descriptor = openSync(path, 'r');
    } catch (cause) {
      throw new UsageError(`${path}: cannot be opened: ${(cause as Error).message}`, { cause });
    }
    try {
      this.bytes = fstatSync(this.descriptor).size;
      this.entries = readEntries(path, this.descriptor);
    } catch (error) {
      this.close();
      throw error;
    }
  }

  entry(name: string): TensorEntry {
    const entry = this.entries.get(name);
    if (!entry) throw new FormatError(`${this.path}: no tensor "${name}" among its ${this.entries.size}`);
    return entry;
  }

  readBytes(name: string, start = 0, count = this.entry(name).length - start): Uint8Array<ArrayBuffer> {
    const { dtype, length, position } = this.entry(name);
    if (start < 0 || count < 0 || start + count > length)
      throw new RangeError(`${this.path}: ${name} has ${length} elements, asked for [${start}, ${start + count})`);
    const size = tensorTypes[dtype];
    return readExactly(this.path, this.descriptor, position + start * size, count * size);
  }

  readFloats(name: string, start = 0, count = this.entry(name).length - start): Float32Array {
    const { dtype } = this.entry(name);
    const convert = toFloat32[dtype];
    if (!convert) throw new FormatError(`${this.path}: ${name} is ${dtype}, expected F32, BF16, F16 or F64`);
    return convert(this.readBytes(name, start, count).buffer);
  }

  fileOf(name: string): TensorFile {
    this.entry(name);
    return this;
  }

  close(): void {
    if (this.isOpen) closeSync(this.descriptor);
    this.isOpen = false;
  }
}

const toFloat32: Partial<Record<TensorType, (bytes: ArrayBuffer) => Float32Array>> = {
  F32: (bytes) => new Float32Array(bytes),
  F64: (bytes) => Float32Array.from(new Float64Array(bytes)),
  BF16: (bytes) => fromBfloat16(new Uint16Array(bytes)),
  F16: (bytes) => fromFloat16(new Uint16Array(bytes)),
};

/** Bytes [position, position + bytes) of a file. @throws FormatError if it ends before */
export function readExactly(
  path: string,
  descriptor: number,
  position: number,
  bytes: number,
): Uint8Array<ArrayBuffer> {
  const into = new Uint8Array(bytes);
  for (let done = 0; done < bytes; ) {
    const n = readSync(descriptor, into, done, Math.min(bytes - done, 1 << 30), position + done);
    if (n === 0) throw new FormatError(`${path}: ends at byte ${position + done}, expected ${position + bytes}`);
    done += n;
  }
  return into;
}

/** Several files as one. */
export class TensorShards implements TensorsOnDisk {
  readonly path: string;
  readonly entries: ReadonlyMap<string, TensorEntry>;
  private readonly files: readonly TensorFile[];
  private readonly places = new Map<string, TensorFile>();

  /** @throws FormatError if two files hold a tensor of one name */
  constructor(path: string, files: readonly TensorFile[]) {
    this.path = path;
    this.files = files;
    const entries = new Map<string, TensorEntry>();
    for (const file of files)
      for (const [name, entry] of file.entries) {
        const other = this.places.get(name);
        if (other) throw new FormatError(`${file.path}: has "${name}", which ${other.path} has too`);
        this.places.set(name, file);
        entries.set(name, entry);
      }
    this.entries = entries;
  }

  entry(name: string): TensorEntry {
    return this.fileOf(name).entry(name);
  }
  readBytes(name: string, start?: number, count?: number): Uint8Array<ArrayBuffer> {
    return this.fileOf(name).readBytes(name, start, count);
  }
  readFloats(name: string, start?: number, count?: number): Float32Array {
    return this.fileOf(name).readFloats(name, start, count);
  }
  close(): void {
    for (const file of this.files) file.close();
  }

  fileOf(name: string): TensorFile {
    const file = this.places.get(name);
    if (!file) throw new FormatError(`${this.path}: no tensor "${name}" among its ${this.entries.size}`);
    return file;
  }
}
