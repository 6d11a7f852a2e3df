/**
 * Token shards: one file of documents as token ids, read at random, every byte under a checksum.
 *
 *   header, 128 bytes (little-endian)
 *     0  "FAT5TOKS"      8  u32 version       12  u32 bytes per token (2, 4)   16  u64 tokens    24  u64 documents
 *     32 u32 vocabulary  36  u32 block bytes   40  32 bytes SHA-256 of the tokenizer   72  u32 CRC-32 of the tail
 *     124 u32 CRC-32 of the bytes before it
 *   tokens      uint16 or uint32, documents end to end without special tokens
 *   tail        u32 end of each document, in tokens; u32 CRC-32 of each block of the token bytes
 *
 * Reading is by pread: the page cache is the map, and a file that shrinks is an error instead of a SIGBUS. Header and
 * tail are checked on opening, a block when it is first touched.
 */
import { closeSync, fstatSync, openSync, readSync } from 'node:fs';
import { basename } from 'node:path';
import { crc32 } from 'node:zlib';
import { FormatError, UsageError } from '../util/errors.ts';
import { NewFile } from '../util/new_file.ts';

const MAGIC = 'FAT5TOKS';
const VERSION = 1;
const HEADER_BYTES = 128;
const BLOCK_BYTES = 1 << 18;

/** What the tokens of a shard are. */
export interface TokenSpace {
  /** Every token is below it. */
  vocab_size: number;
  /** SHA-256 of the tokenizer, 64 hexadecimal digits. */
  hash: string;
}

export interface ShardSummary {
  file: string;
  documents: number;
  tokens: number;
  bytes: number;
  /** CRC-32 of the header, which covers everything else: the shard's identity. */
  crc32: number;
}

const tokenBytes = (vocabSize: number): 2 | 4 => (vocabSize <= 2 ** 16 ? 2 : 4);

/** Writes one shard; the file has its name only once `finish` has returned. */
export class ShardWriter {
  readonly path: string;
  tokens = 0;
  private readonly file: NewFile;
  private readonly space: TokenSpace;
  private readonly width: 2 | 4;
  private readonly block = Buffer.alloc(BLOCK_BYTES);
  private readonly words: Uint16Array | Uint32Array;
  private filled = 0; // tokens in `block`
  private readonly ends: number[] = [];
  private readonly checksums: number[] = [];

  /** @throws UsageError if the file cannot be created */
  constructor(path: string, space: TokenSpace) {
    if (!/^[0-9a-f]{64}$/.test(space.hash))
      throw new UsageError(`${path}: tokenizer hash "${space.hash}" is no SHA-256`);
    this.path = path;
    this.space = space;
    this.width = tokenBytes(space.vocab_size);
    const { buffer, byteOffset } = this.block;
    this.words =
      this.width === 2
        ? new Uint16Array(buffer, byteOffset, BLOCK_BYTES / 2)
        : new Uint32Array(buffer, byteOffset, BLOCK_BYTES / 4);
    this.file = new NewFile(path);
    this.file.write(new Uint8Array(HEADER_BYTES));
  }

  get documents(): number {
    return this.ends.length;
  }

  /** Adds ids[start..end) as a document. @throws UsageError for a full disk, FormatError for an id outside the vocabulary */
  append(ids: Int32Array, start = 0, end = ids.length): void {
    const { words } = this;
    for (let i = start; i < end; i++) {
      const id = ids[i]!;
      if (id < 0 || id >= this.space.vocab_size)
        throw new FormatError(
          `${this.path}: token ${id} of document ${this.documents}, expected below vocab_size ${this.space.vocab_size}`,
        );
      words[this.filled++] = id;
      if (this.filled === words.length) this.flush();
    }
    this.tokens += end - start;
    this.ends.push(this.tokens);
  }

  private flush(): void {
    const bytes = this.block.subarray(0, this.filled * this.width);
    this.checksums.push(crc32(bytes));
    this.filled = 0;
    this.file.write(bytes);
  }

  /** Completes the file and gives it its name. @throws UsageError for a full disk */
  finish(): ShardSummary {
    if (this.filled > 0) this.flush();
    const words = new Uint32Array(this.ends.length + this.checksums.length);
    words.set(this.ends);
    words.set(this.checksums, this.ends.length);
    const tail = Buffer.from(words.buffer);
    const header = Buffer.alloc(HEADER_BYTES);
    header.write(MAGIC, 0, 'latin1');
    header.writeUInt32LE(VERSION, 8);
    header.writeUInt32LE(this.width, 12);
    header.writeBigUInt64LE(BigInt(this.tokens), 16);
    header.writeBigUInt64LE(BigInt(this.ends.length), 24);
    header.writeUInt32LE(this.space.vocab_size, 32);
    header.writeUInt32LE(BLOCK_BYTES, 36);
    header.write(this.space.hash, 40, 'hex');
    header.writeUInt32LE(crc32(tail), 72);
    const checksum = crc32(header.subarray(0, HEADER_BYTES - 4));
    header.writeUInt32LE(checksum, HEADER_BYTES - 4);
    this.file.write(tail);
    this.file.write(header, 0);
    this.file.finish();
    const bytes = HEADER_BYTES + this.tokens * this.width + tail.length;
    return { file: basename(this.path), documents: this.ends.length, tokens: this.tokens, bytes, crc32: checksum };
  }

  /** Gives up: no file is left. */
  abandon(): void {
    this.file.abandon();
  }
}

// Indexed loops, one per type: `for of` over either made verifying a shard five times slower.
function largest16(words: Uint16Array): number {
  let largest = 0;
  for (let i = 0; i < words.length; i++) largest = Math.max(largest, words[i]!);
  return largest;
}

function largest32(words: Uint32Array): number {
  let largest = 0;
  for (let i = 0; i < words.length; i++) largest = Math.max(largest, words[i]!);
  return largest;
}

/** Random access to the documents of one shard. */
export class ShardReader implements TokenSpace {
  readonly path: string;
  readonly tokens: number;
  readonly documents: number;
  readonly vocab_size: number;
  readonly hash: string;
  readonly crc32: number;
  private readonly fd: number;
  private readonly width: number;
  private readonly blockBytes: number;
  private readonly ends: Uint32Array;
  private readonly checksums: Uint32Array;
  private readonly checked: Uint8Array;
  private scratch = new ArrayBuffer(1 << 16);

  /** Opens a shard and checks its header and tail. @throws FormatError naming what is wrong, UsageError if unreadable */
  constructor(path: string) {
    this.path = path;
    try {
      this.fd = openSync(path, 'r');
    } catch (cause) {
      throw new UsageError(`${path}: cannot be opened: ${(cause as Error).message}; prepare the data again`, { cause });
    }
    try {
      const size = fstatSync(this.fd).size;
      if (size < HEADER_BYTES) throw new FormatError(`${path}: ${size} bytes, expected a shard of at least 128`);
      const header = Buffer.alloc(HEADER_BYTES);
      this.read(header, 0);
      if (header.toString('latin1', 0, 8) !== MAGIC)
        throw new FormatError(`${path}: does not begin with ${MAGIC}, expected a token shard`);
      this.crc32 = header.readUInt32LE(HEADER_BYTES - 4);
      if (crc32(header.subarray(0, HEADER_BYTES - 4)) !== this.crc32)
        throw new FormatError(`${path}: the header does not match its checksum; prepare the data again`);
      const version = header.readUInt32LE(8);
      if (version !== VERSION) throw new FormatError(`${path}: version ${version}, expected ${VERSION}`);
      this.width = header.readUInt32LE(12);
      this.tokens = Number(header.readBigUInt64LE(16));
      this.documents = Number(header.readBigUInt64LE(24));
      this.vocab_size = header.readUInt32LE(32);
      this.blockBytes = header.readUInt32LE(36);
      this.hash = header.toString('hex', 40, 72);
      if ((this.width !== 2 && this.width !== 4) || this.blockBytes === 0 || this.blockBytes % 4 !== 0)
        throw new FormatError(`${path}: tokens of ${this.width} bytes in blocks of ${this.blockBytes}`);
      const blocks = Math.ceil((this.tokens * this.width) / this.blockBytes);
      const tailAt = HEADER_BYTES + this.tokens * this.width;
      const tailBytes = 4 * (this.documents + blocks);
      // Sizes are compared with the file before anything is allocated from them.
      if (size !== tailAt + tailBytes)
        throw new FormatError(
          `${path}: ${size} bytes, expected ${tailAt + tailBytes} from its header; is it truncated?`,
        );
      const tail = Buffer.from(new ArrayBuffer(tailBytes));
      this.read(tail, tailAt);
      if (crc32(tail) !== header.readUInt32LE(72))
        throw new FormatError(`${path}: the document index does not match its checksum; prepare the data again`);
      this.ends = new Uint32Array(tail.buffer, 0, this.documents);
      this.checksums = new Uint32Array(tail.buffer, 4 * this.documents, blocks);
      this.checked = new Uint8Array(blocks);
      let last = 0;
      for (const end of this.ends) {
        if (end < last) throw new FormatError(`${path}: the document index is not ascending`);
        last = end;
      }
      if (last !== this.tokens)
        throw new FormatError(`${path}: documents end at ${last}, expected ${this.tokens} tokens`);
    } catch (cause) {
      closeSync(this.fd);
      throw cause;
    }
  }

  /** First token of document n; n = documents gives the number of tokens. */
  startOf(document: number): number {
    return document === 0 ? 0 : this.ends[document - 1]!;
  }

  /** Copies tokens [start, end) to `into` at `at`. @throws FormatError for a corrupted block or one cut off since opening */
  copy(start: number, end: number, into: Int32Array, at: number): void {
    const { width } = this;
    const bytes = (end - start) * width;
    if (bytes > this.scratch.byteLength) this.scratch = new ArrayBuffer(2 * bytes);
    this.check(start * width, end * width);
    this.read(new Uint8Array(this.scratch, 0, bytes), HEADER_BYTES + start * width);
    const words =
      width === 2 ? new Uint16Array(this.scratch, 0, end - start) : new Uint32Array(this.scratch, 0, end - start);
    into.set(words, at);
  }

  /** Reads and checks the whole shard. @throws FormatError naming the first bad block */
  verify(): void {
    this.checked.fill(0);
    this.check(0, this.tokens * this.width);
  }

  close(): void {
    closeSync(this.fd);
  }

  private check(from: number, to: number): void {
    const last = Math.ceil(to / this.blockBytes);
    for (let block = Math.floor(from / this.blockBytes); block < last; block++)
      if (this.checked[block] === 0) this.checkBlock(block);
  }

  private checkBlock(block: number): void {
    const start = block * this.blockBytes;
    const bytes = new Uint8Array(Math.min(this.blockBytes, this.tokens * this.width - start));
    this.read(bytes, HEADER_BYTES + start);
    const where = `${this.path}: block ${block} (bytes ${HEADER_BYTES + start} to ${HEADER_BYTES + start + bytes.length})`;
    if (crc32(bytes) !== this.checksums[block])
      throw new FormatError(`${where} does not match its checksum; prepare the data again`);
    const largest =
      this.width === 2 ? largest16(new Uint16Array(bytes.buffer)) : largest32(new Uint32Array(bytes.buffer));
    if (largest >= this.vocab_size)
      throw new FormatError(
        `${where} has token ${largest}, expected below vocab_size ${this.vocab_size} of its header`,
      );
    this.checked[block] = 1;
  }

  private read(into: Uint8Array, position: number): void {
    let done = 0;
    while (done < into.length) {
      const count = readSync(this.fd, into, done, into.length - done, position + done);
      if (count === 0)
        throw new FormatError(
          `${this.path}: has nothing at byte ${position + done}, expected ${into.length - done} bytes; was it cut off?`,
        );
      done += count;
    }
  }
}
