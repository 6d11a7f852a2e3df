/** Named device tensors in a safetensors file: the optimizer's state, bit for bit. */
import type { DType } from '../backend/dtype.ts';
import { hostArray } from '../backend/dtype.ts';
import { openSafetensors } from '../model/safetensors.ts';
import { writeSafetensors } from '../model/safetensors_write.ts';
import type { TensorType } from '../model/tensors_on_disk.ts';
import type { Tensor } from '../tensor/tensor.ts';
import { FormatError } from '../util/errors.ts';

const typeNames: Record<DType, TensorType> = { f32: 'F32', bf16: 'BF16', f16: 'F16', f8: 'U8', i32: 'I32', i8: 'I8' };
/** Elements that are read at a time. */
const CHUNK = 1 << 22;

/** @throws UsageError if the disk is full or the folder cannot be written */
export async function writeTensors(path: string, tensors: Record<string, Tensor>): Promise<void> {
  await writeSafetensors(
    path,
    Object.entries(tensors).map(([name, { backend, memory, dtype, shape }]) => ({
      name,
      dtype: typeNames[dtype],
      shape,
      async read(start, count) {
        const host = hostArray(dtype, count);
        await backend.read(memory.slice(start, count), host);
        return new Uint8Array(host.buffer);
      },
    })),
  );
}

/** Fills tensors from a file that must hold exactly them. @throws FormatError naming what differs */
export function readTensors(path: string, tensors: Record<string, Tensor>): void {
  const file = openSafetensors(path);
  try {
    for (const name of file.entries.keys())
      if (!Object.hasOwn(tensors, name))
        throw new FormatError(`${path}: tensor "${name}" is unknown, expected ${Object.keys(tensors).join(', ')}`);
    for (const [name, { backend, memory, dtype, shape }] of Object.entries(tensors)) {
      const entry = file.entry(name);
      if (entry.dtype !== typeNames[dtype] || entry.shape.join() !== shape.join())
        throw new FormatError(
          `${path}: ${name} is ${entry.dtype} [${entry.shape}], expected ${typeNames[dtype]} [${shape}] from the optimizer`,
        );
      for (let start = 0; start < entry.length; start += CHUNK) {
        const count = Math.min(CHUNK, entry.length - start);
        const host = hostArray(dtype, count);
        new Uint8Array(host.buffer).set(file.readBytes(name, start, count));
        backend.write(memory.slice(start, count), host);
      }
    }
  } finally {
    file.close();
  }
}
