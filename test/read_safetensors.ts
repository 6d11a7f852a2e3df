/** Bytes of every tensor of a safetensors file, read without the code under test. */
import { readFileSync } from 'node:fs';

export function readSafetensors(path: string): Map<string, Buffer> {
  const file = readFileSync(path);
  const header = Number(file.readBigUInt64LE(0));
  const entries = JSON.parse(file.toString('utf8', 8, 8 + header)) as Record<
    string,
    { data_offsets?: [number, number] }
  >;
  const tensors = Object.entries(entries).filter(([name]) => name !== '__metadata__');
  return new Map(
    tensors.map(([name, { data_offsets }]) => {
      const [start, end] = data_offsets!;
      return [name, file.subarray(8 + header + start, 8 + header + end)];
    }),
  );
}
