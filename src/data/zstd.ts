/**
 * Zstandard streams where Node has none of its own (before 22.15). fzstd decodes but leaves out the frames' checksums: here the
 * stream is cut into frames (RFC 8878, 3.1), each is decoded alone, and its content is compared with its checksum.
 */
import { Decompress } from 'fzstd';
import { Xxh64 } from './xxh64.ts';

const FRAME = 0xfd2fb528;
const SKIPPABLE = 0x184d2a50;
const TRUNCATED = 'unexpected EOF';

/** Stored bytes, asked for by count across the parts of a stream. */
class Stored {
  private readonly parts: AsyncIterator<Buffer>;
  private part: Buffer = Buffer.alloc(0);

  constructor(parts: AsyncIterable<Buffer>) {
    this.parts = parts[Symbol.asyncIterator]();
  }

  /** Whether there is another byte. */
  async more(): Promise<boolean> {
    while (this.part.length === 0) {
      const { done, value } = await this.parts.next();
      if (done) return false;
      this.part = value;
    }
    return true;
  }

  /** The next `count` bytes in pieces as they come. @throws when the stream ends before */
  async *pieces(count: number): AsyncGenerator<Buffer> {
    for (let left = count; left > 0; ) {
      if (!(await this.more())) throw new Error(TRUNCATED);
      const piece = this.part.subarray(0, left);
      this.part = this.part.subarray(piece.length);
      left -= piece.length;
      yield piece;
    }
  }

  /** The next `count` bytes together; for few. */
  async take(count: number): Promise<Buffer> {
    const pieces: Buffer[] = [];
    for await (const piece of this.pieces(count)) pieces.push(piece);
    return pieces.length === 1 ? pieces[0]! : Buffer.concat(pieces);
  }
}

/** The content of every frame, one after the other. @throws Error for a stream that is truncated or damaged */
export async function* unzstd(parts: AsyncIterable<Buffer>): AsyncGenerator<Buffer> {
  const stored = new Stored(parts);
  while (await stored.more()) {
    const magic = await stored.take(4);
    const kind = magic.readUInt32LE(0);
    if ((kind & ~15) >>> 0 === SKIPPABLE) {
      const bytes = (await stored.take(4)).readUInt32LE(0);
      for await (const _ of stored.pieces(bytes));
    } else if (kind === FRAME) yield* frame(magic, stored);
    else throw new Error(`0x${kind.toString(16)} where a frame begins`);
  }
}

async function* frame(magic: Buffer, stored: Stored): AsyncGenerator<Buffer> {
  let ready: Buffer[] = [];
  const hash = new Xxh64();
  const decoder = new Decompress((part) => {
    hash.update(part);
    ready.push(Buffer.from(part)); // the decoder goes on to use its memory
  });
  const descriptor = await stored.take(1);
  const flags = descriptor[0]!;
  const isSingle = (flags >> 5) & 1;
  const dictionaryBytes = [0, 1, 2, 4][flags & 3]!;
  const sizeBytes = [isSingle, 2, 4, 8][flags >> 6]!;
  decoder.push(Buffer.concat([magic, descriptor, await stored.take(1 - isSingle + dictionaryBytes + sizeBytes)]));
  for (let isLast = false; !isLast; ) {
    const header = await stored.take(3);
    const word = header.readUIntLE(0, 3);
    isLast = (word & 1) === 1;
    const isRepeated = ((word >> 1) & 3) === 1;
    decoder.push(Buffer.concat([header, await stored.take(isRepeated ? 1 : word >> 3)]));
    yield* ready;
    ready = [];
  }
  const checksum = await stored.take((flags >> 2) & 1 ? 4 : 0);
  decoder.push(checksum, true);
  yield* ready;
  if (checksum.length > 0 && checksum.readUInt32LE(0) !== Number(BigInt.asUintN(32, hash.digest())))
    throw new Error('incorrect data check');
}
