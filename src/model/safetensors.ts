/**
 * Reading safetensors files: eight bytes of header length, a JSON header, the tensors' bytes.
 *
 * The header is not trusted: its length is checked before anything is allocated, and every offset before it is used.
 * The tensors must tile the rest of the file without gaps or overlaps, as the format demands.
 *
 * Source: the format's description, https://github.com/huggingface/safetensors#format.
 */
import { fstatSync } from 'node:fs';
import { FormatError } from '../util/errors.ts';
import { readExactly, type TensorEntry, TensorFile, type TensorType, tensorTypes } from './tensors_on_disk.ts';

/** What a header may take at most, as in the reference implementation. */
const MAX_HEADER_BYTES = 100_000_000;
const MAX_RANK = 32;

/** Opens a file and checks its header. @throws UsageError if it cannot be opened, FormatError if it is damaged */
export const openSafetensors = (path: string): TensorFile => new TensorFile(path, readHeader);

function readHeader(path: string, descriptor: number): Map<string, TensorEntry> {
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
  const dataStart = 8 + headerBytes;
  const spans: { name: string; start: number; end: number }[] = [];
  for (const [name, value] of Object.entries(header)) {
    if (name === '__metadata__') {
      if (!isRecord(value) || !Object.values(value).every((v) => typeof v === 'string'))
        fail('__metadata__ is not a map of strings');
      continue;
    }
    const { dtype, shape, start, end } = checkEntry(name, value, fail);
    const length = shape.reduce((a, b) => a * b, 1);
    if (!Number.isSafeInteger(length) || length * tensorTypes[dtype] !== end - start)
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
  return entries;
}

const isRecord = (value: unknown): value is Record<string, unknown> =>
  typeof value === 'object' && value !== null && !Array.isArray(value);

const isSize = (value: unknown): value is number => Number.isSafeInteger(value) && (value as number) >= 0;

function checkEntry(name: string, value: unknown, fail: (why: string) => never) {
  if (!isRecord(value)) return fail(`${name} is not described by an object`);
  const { dtype, shape, data_offsets: offsets } = value;
  if (typeof dtype !== 'string' || !Object.hasOwn(tensorTypes, dtype))
    return fail(`${name} has dtype ${JSON.stringify(dtype)}, expected one of ${Object.keys(tensorTypes)}`);
  if (!Array.isArray(shape) || shape.length > MAX_RANK || !shape.every(isSize))
    return fail(`${name} has shape ${JSON.stringify(shape)}, expected a list of at most ${MAX_RANK} sizes`);
  if (!Array.isArray(offsets) || offsets.length !== 2 || !offsets.every(isSize) || offsets[0] > offsets[1])
    return fail(`${name} has data_offsets ${JSON.stringify(offsets)}, expected [begin, end]`);
  return { dtype: dtype as TensorType, shape: shape as number[], start: offsets[0]!, end: offsets[1]! };
}
