/**
 * Reading safetensors files: eight bytes of header length, a JSON header, the tensors' bytes.
 *
 * The header is not trusted: its length is checked before anything is allocated, and every offset before it is used.
 * The tensors must tile the rest of the file without gaps or overlaps, as the format demands.
 *
 * Source: the format's description, https://github.com/huggingface/safetensors#format.
 */
import { closeSync, fstatSync, openSync, readSync } from 'node:fs';
import { fromBfloat16 } from '../util/bfloat16.ts';
import { FormatError, UsageError } from '../util/errors.ts';
import { fromFloat16 } from '../util/float16.ts';

/** Bytes of one element. */
export const safetensorsTypes = {
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
export type SafetensorsType = keyof typeof safetensorsTypes;

export interface TensorEntry {
  dtype: SafetensorsType;
  shape: readonly number[];
  /** Number of elements. */
  length: number;
  /** Where the first byte is in the file. */
  position: number;
}

/** What a header may take at most, as in the reference implementation. */
const MAX_HEADER_BYTES = 100_000_000;
const MAX_RANK = 32;

/** An open file. Tensors are read by offset, never the whole file. */
export class SafetensorsFile {
  readonly path: string;
  readonly entries: ReadonlyMap<string, TensorEntry>;
  readonly metadata: Readonly<Record<string, string>>;
  private descriptor: number | undefined;

  private constructor(path: string, descriptor: number) {
    this.path = path;
    this.descriptor = descriptor;
    const { entries, metadata } = readHeader(path, descriptor);
    this.entries = entries;
    this.metadata = metadata;
  }

  /** Opens a file and checks its header. @throws UsageError if it cannot be opened, FormatError if it is damaged */
  static open(path: string): SafetensorsFile {
    let descriptor: number;
    try {
      descriptor = openSync(path, 'r');
    } catch (cause) {
      throw new UsageError(`${path}: cannot be opened: ${(cause as Error).message}`, { cause });
    }
    try {
      return new SafetensorsFile(path, descriptor);
    } catch (error) {
      closeSync(descriptor);
      throw error;
    }
  }

  /** @throws FormatError if the file has no such tensor */
  entry(name: string): TensorEntry {
    const entry = this.entries.get(name);
    if (!entry) throw new FormatError(`${this.path}: no tensor "${name}" among its ${this.entries.size}`);
    return entry;
  }

  /** The bytes of elements [start, start + count) of a tensor, little-endian. @throws FormatError */
  readBytes(name: string, start = 0, count = this.entry(name).length - start): Uint8Array<ArrayBuffer> {
    const { dtype, length, position } = this.entry(name);
    if (start < 0 || count < 0 || start + count > length)
      throw new RangeError(`${this.path}: ${name} has ${length} elements, asked for [${start}, ${start + count})`);
    const size = safetensorsTypes[dtype];
    return readExactly(this.path, this.descriptor!, position + start * size, count * size);
  }

  /** Elements [start, start + count) of a float tensor as float32. @throws FormatError if it holds integers */
  readFloats(name: string, start = 0, count = this.entry(name).length - start): Float32Array {
    const { dtype } = this.entry(name);
    const convert = toFloat32[dtype];
    if (!convert) throw new FormatError(`${this.path}: ${name} is ${dtype}, expected F32, BF16, F16 or F64`);
    return convert(this.readBytes(name, start, count).buffer);
  }

  close(): void {
    if (this.descriptor !== undefined) closeSync(this.descriptor);
    this.descriptor = undefined;
  }
}

const toFloat32: Partial<Record<SafetensorsType, (bytes: ArrayBuffer) => Float32Array>> = {
  F32: (bytes) => new Float32Array(bytes),
  F64: (bytes) => Float32Array.from(new Float64Array(bytes)),
  BF16: (bytes) => fromBfloat16(new Uint16Array(bytes)),
  F16: (bytes) => fromFloat16(new Uint16Array(bytes)),
};

function readExactly(path: string, descriptor: number, position: number, bytes: number): Uint8Array<ArrayBuffer> {
  const into = new Uint8Array(bytes);
  for (let done = 0; done < bytes; ) {
    const n = readSync(descriptor, into, done, Math.min(bytes - done, 1 << 30), position + done);
    if (n === 0) throw new FormatError(`${path}: ends at byte ${position + done}, expected ${position + bytes}`);
    done += n;
  }
  return into;
}

function readHeader(path: string, descriptor: number) {
  const fail = (why: string): never => {
    throw new FormatError(`${path}: not a safetensors file: ${why}`);
  };
  const fileBytes = fstatSync(descriptor).size;
  if (fileBytes < 8) fail(`it has ${fileBytes} bytes, expected at least the 8 of the header's length`);
  const headerBytes = Number(new DataView(readExactly(path, descriptor, 0, 8).buffer).getBigUint64(0, true));
  if (headerBytes > MAX_HEADER_BYTES || headerBytes > fileBytes - 8)
    fail(`its header claims ${headerBytes} bytes, the file has ${fileBytes - 8} after the length`);
  let header: unknown;
  try {
    const text = new TextDecoder('utf-8', { fatal: true }).decode(readExactly(path, descriptor, 8, headerBytes));
    header = JSON.parse(text);
  } catch (cause) {
    fail(`its header is not JSON: ${(cause as Error).message.slice(0, 100)}`);
  }
  if (!isRecord(header)) return fail('its header is not a JSON object');

  const entries = new Map<string, TensorEntry>();
  let metadata: Record<string, string> = {};
  const dataStart = 8 + headerBytes;
  const spans: { name: string; start: number; end: number }[] = [];
  for (const [name, value] of Object.entries(header)) {
    if (name === '__metadata__') {
      if (!isRecord(value) || !Object.values(value).every((v) => typeof v === 'string'))
        fail('__metadata__ is not a map of strings');
      metadata = value as Record<string, string>;
      continue;
    }
    const { dtype, shape, start, end } = checkEntry(name, value, fail);
    const length = shape.reduce((a, b) => a * b, 1);
    if (!Number.isSafeInteger(length) || length * safetensorsTypes[dtype] !== end - start)
      fail(`${name} is ${dtype} [${shape}] but has ${end - start} bytes`);
    entries.set(name, { dtype, shape, length, position: dataStart + start });
    spans.push({ name, start, end });
  }
  spans.sort((a, b) => a.start - b.start || a.end - b.end);
  let expected = 0;
  for (const { name, start, end } of spans) {
    if (start !== expected) fail(`${name} starts at byte ${start} of the data, expected ${expected}`);
    expected = end;
  }
  if (expected !== fileBytes - dataStart)
    fail(`the tensors take ${expected} bytes, the file has ${fileBytes - dataStart} after the header`);
  return { entries, metadata };
}

const isRecord = (value: unknown): value is Record<string, unknown> =>
  typeof value === 'object' && value !== null && !Array.isArray(value);

const isSize = (value: unknown): value is number => Number.isSafeInteger(value) && (value as number) >= 0;

function checkEntry(name: string, value: unknown, fail: (why: string) => never) {
  if (!isRecord(value)) return fail(`${name} is not described by an object`);
  const { dtype, shape, data_offsets: offsets } = value;
  if (typeof dtype !== 'string' || !Object.hasOwn(safetensorsTypes, dtype))
    return fail(`${name} has dtype ${JSON.stringify(dtype)}, expected one of ${Object.keys(safetensorsTypes)}`);
  if (!Array.isArray(shape) || shape.length > MAX_RANK || !shape.every(isSize))
    return fail(`${name} has shape ${JSON.stringify(shape)}, expected a list of at most ${MAX_RANK} sizes`);
  if (!Array.isArray(offsets) || offsets.length !== 2 || !offsets.every(isSize) || offsets[0] > offsets[1])
    return fail(`${name} has data_offsets ${JSON.stringify(offsets)}, expected [begin, end]`);
  return { dtype: dtype as SafetensorsType, shape: shape as number[], start: offsets[0]!, end: offsets[1]! };
}
