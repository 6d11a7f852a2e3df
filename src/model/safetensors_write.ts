/** Writing safetensors files (format: safetensors.ts). A file appears complete or not at all. */
import { FormatError, UsageError } from '../util/errors.ts';
import { NewFile } from '../util/new_file.ts';
import { type TensorType, tensorTypes } from './tensors_on_disk.ts';

/** A tensor and where its bytes come from. */
export interface TensorToWrite {
  name: string;
  dtype: TensorType;
  shape: readonly number[];
  /** The little-endian bytes of elements [start, start + count). */
  read: (start: number, count: number) => Promise<Uint8Array>;
}

/** Elements handed over at a time, so that a large model needs no second copy in host memory. */
const CHUNK = 1 << 22;

/**
 * Writes the tensors in the order given.
 * @throws UsageError if the disk is full or the folder cannot be written; what was at `path` stays as it was
 */
export async function writeSafetensors(
  path: string,
  tensors: readonly TensorToWrite[],
  metadata: Record<string, string> = { format: 'pt' },
): Promise<void> {
  const header = encodeHeader(path, tensors, metadata);
  const file = new NewFile(path);
  try {
    file.write(header);
    for (const { name, dtype, shape, read } of tensors) {
      const length = elementsOf(shape);
      for (let start = 0; start < length; start += CHUNK) {
        const count = Math.min(CHUNK, length - start);
        const bytes = await read(start, count);
        if (bytes.byteLength !== count * tensorTypes[dtype])
          throw new FormatError(`${path}: ${name}: ${bytes.byteLength} bytes for ${count} elements of ${dtype}`);
        file.write(bytes);
      }
    }
    file.finish();
  } finally {
    file.abandon();
  }
}

const elementsOf = (shape: readonly number[]) => shape.reduce((a, b) => a * b, 1);

/** Where the data may start, bytes: other readers ask for 8; vectors of mapped weights then lie within cache lines. */
const DATA_ALIGNMENT = 64;

function encodeHeader(path: string, tensors: readonly TensorToWrite[], metadata: Record<string, string>): Uint8Array {
  const header: Record<string, unknown> = { __metadata__: metadata };
  let end = 0;
  for (const { name, dtype, shape } of tensors) {
    if (Object.hasOwn(header, name)) throw new UsageError(`${path}: two tensors are called "${name}"`);
    const start = end;
    end += elementsOf(shape) * tensorTypes[dtype];
    header[name] = { dtype, shape, data_offsets: [start, end] };
  }
  const text = JSON.stringify(header);
  const bytes = Buffer.byteLength(text);
  const padded = Math.ceil((8 + bytes) / DATA_ALIGNMENT) * DATA_ALIGNMENT - 8;
  const out = Buffer.alloc(8 + padded, ' ');
  out.writeBigUInt64LE(BigInt(padded), 0);
  out.write(text, 8);
  return out;
}
