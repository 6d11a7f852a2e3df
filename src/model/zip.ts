/**
 * Where the entries of a zip file lie. Only stored (uncompressed) entries, as PyTorch writes them; zip64 for files
 * beyond 4 GiB.
 *
 * Source: PKWARE's APPNOTE 6.3, sections 4.3.7 (local header), 4.3.12 (directory), 4.3.14 to 4.3.16 (its end), 4.5.3.
 */
import { fstatSync } from 'node:fs';
import { FormatError } from '../util/errors.ts';
import { readExactly } from './tensors_on_disk.ts';

/** Where one entry lies. */
export interface ZipEntry {
  /** Where the entry's first byte is in the file. */
  position: number;
  bytes: number;
}

const LOCAL_HEADER = 0x04034b50;
const DIRECTORY_ENTRY = 0x02014b50;
const END = 0x06054b50;
const END_BYTES = 22;
const END64 = 0x06064b50;
const END64_BYTES = 56;
const LOCATOR64 = 0x07064b50;
const LOCATOR64_BYTES = 20;
/** The end's comment has a 16-bit length. */
const LONGEST_END = END_BYTES + 0xffff;
/** A model of a million tensors has a smaller directory. */
const MAX_DIRECTORY_BYTES = 1 << 28;
const STORED = 0;
const EXTRA64 = 1;
const ENCRYPTED = 1;

/** The entries of a file by name. @throws FormatError if it is no zip file, or has compressed or encrypted entries */
export function zipEntries(path: string, descriptor: number): Map<string, ZipEntry> {
  const fail = (why: string): never => {
    throw new FormatError(`${path}: not a PyTorch zip file: ${why}`);
  };
  const size = fstatSync(descriptor).size;
  const read = (position: number, bytes: number): DataView => {
    if (!(position >= 0 && bytes >= 0 && position + bytes <= size))
      fail(`it points to bytes ${position} to ${position + bytes}, it has ${size}`);
    return new DataView(readExactly(path, descriptor, position, bytes).buffer);
  };
  const { start, bytes } = directoryPlace(size, read, fail);
  if (bytes > MAX_DIRECTORY_BYTES) fail(`its directory claims ${bytes} bytes`);
  const directory = read(start, bytes);
  const entries = new Map<string, ZipEntry>();
  for (let at = 0; at < bytes; ) {
    if (at + 46 > bytes || directory.getUint32(at, true) !== DIRECTORY_ENTRY) fail('its directory is damaged');
    const [nameBytes, extraBytes, commentBytes] = [28, 30, 32].map((offset) => directory.getUint16(at + offset, true));
    const next = at + 46 + nameBytes! + extraBytes! + commentBytes!;
    if (next > bytes) fail('its directory is damaged');
    const name = Buffer.from(directory.buffer, at + 46, nameBytes).toString('utf8');
    if (directory.getUint16(at + 8, true) & ENCRYPTED) fail(`${name} is encrypted`);
    if (directory.getUint16(at + 10, true) !== STORED) fail(`${name} is compressed, expected stored bytes`);
    const sizes = {
      length: directory.getUint32(at + 24, true),
      stored: directory.getUint32(at + 20, true),
      header: directory.getUint32(at + 42, true),
    };
    widen(new DataView(directory.buffer, at + 46 + nameBytes!, extraBytes), sizes, fail);
    const local = read(sizes.header, 30);
    if (local.getUint32(0, true) !== LOCAL_HEADER) fail(`${name} has no header at byte ${sizes.header}`);
    const position = sizes.header + 30 + local.getUint16(26, true) + local.getUint16(28, true);
    if (position + sizes.length > size) fail(`${name} ends at byte ${position + sizes.length}, it has ${size}`);
    entries.set(name, { position, bytes: sizes.length });
    at = next;
  }
  return entries;
}

type Read = (position: number, bytes: number) => DataView;
type Fail = (why: string) => never;

function directoryPlace(size: number, read: Read, fail: Fail): { start: number; bytes: number } {
  const length = Math.min(size, LONGEST_END);
  const tail = read(size - length, length);
  let at = length - END_BYTES;
  while (at >= 0 && tail.getUint32(at, true) !== END) at--;
  if (at < 0) fail('it has no directory; files saved by PyTorch before 1.6 must be saved again by a newer one');
  const end = size - length + at;
  const short = { start: tail.getUint32(at + 16, true), bytes: tail.getUint32(at + 12, true) };
  if (short.start !== 0xffffffff && short.bytes !== 0xffffffff) return short;
  const locator = read(end - LOCATOR64_BYTES, LOCATOR64_BYTES);
  if (locator.getUint32(0, true) !== LOCATOR64) fail('its zip64 directory is missing');
  const end64 = read(Number(locator.getBigUint64(8, true)), END64_BYTES);
  if (end64.getUint32(0, true) !== END64) fail('its zip64 directory is missing');
  return { start: Number(end64.getBigUint64(48, true)), bytes: Number(end64.getBigUint64(40, true)) };
}

/** Replaces sizes that do not fit into 32 bits by those of the zip64 extra field. */
function widen(extra: DataView, sizes: { length: number; stored: number; header: number }, fail: Fail): void {
  for (let at = 0; at + 4 <= extra.byteLength; ) {
    const length = extra.getUint16(at + 2, true);
    if (at + 4 + length > extra.byteLength) return; // padding that other tools leave
    if (extra.getUint16(at, true) === EXTRA64) {
      let field = at + 4;
      for (const key of ['length', 'stored', 'header'] as const)
        if (sizes[key] === 0xffffffff) {
          if (field + 8 > at + 4 + length) fail('a zip64 size is missing');
          sizes[key] = Number(extra.getBigUint64(field, true));
          field += 8;
        }
    }
    at += 4 + length;
  }
}
