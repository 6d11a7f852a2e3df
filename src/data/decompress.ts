/** Byte streams of plain, gzip and zstd files and of standard input, in pieces, never the whole in memory. */
import { createReadStream } from 'node:fs';
import { PassThrough, pipeline, type Readable } from 'node:stream';
import * as zlib from 'node:zlib';
import { FormatError, UsageError } from '../util/errors.ts';
import { unzstd } from './zstd.ts';

/** Told how many stored bytes have been read since the last call. */
export type OnBytes = (bytes: number) => void;

/** What errors call a source. */
export const sourceName = (path: string): string => (path === '-' ? 'standard input' : path);

type Compression = 'gzip' | 'zstd' | 'none';

function compressionOf(first: Buffer): Compression {
  if (first.length >= 2 && first.readUInt16BE(0) === 0x1f8b) return 'gzip';
  if (first.length >= 4 && first.readUInt32BE(0) === 0x28b52ffd) return 'zstd';
  return 'none';
}

const endings: Record<string, Compression> = { '.gz': 'gzip', '.zst': 'zstd' };

async function* stored(path: string, onBytes: OnBytes): AsyncGenerator<Buffer> {
  const stream = path === '-' ? process.stdin : createReadStream(path, { highWaterMark: 1 << 18 });
  try {
    for await (const part of stream) {
      onBytes((part as Buffer).length);
      yield part as Buffer;
    }
  } catch (cause) {
    throw new UsageError(`${sourceName(path)}: cannot be read: ${(cause as Error).message}`, { cause });
  }
}

async function* through(parts: AsyncIterable<Buffer>, transform: NodeJS.ReadWriteStream): AsyncGenerator<Buffer> {
  const end = new PassThrough({ highWaterMark: 1 << 18 });
  // The error reaches the reader through `end`, after everything that was decoded before it.
  pipeline(parts, transform, end, () => {});
  yield* end as Readable & AsyncIterable<Buffer>;
}

/** The decompressed bytes of a file, or of standard input for '-'. @throws FormatError if it is truncated or corrupted */
export async function* openBytes(path: string, onBytes: OnBytes): AsyncGenerator<Buffer> {
  const source = stored(path, onBytes);
  const first = await source.next();
  if (first.done) return;
  const parts = (async function* () {
    yield first.value;
    yield* source;
  })();
  const compression = compressionOf(first.value);
  const claimed = endings[/\.[a-z]+$/i.exec(path)?.[0].toLowerCase() ?? ''];
  if (claimed && claimed !== compression)
    throw new FormatError(`${path}: does not begin as a ${claimed} file, expected from its name`);
  let bytes = 0;
  try {
    const { createZstdDecompress } = zlib as unknown as { createZstdDecompress?: () => NodeJS.ReadWriteStream };
    const plain =
      compression === 'gzip'
        ? through(parts, zlib.createGunzip({ chunkSize: 1 << 18 }))
        : compression === 'none'
          ? parts
          : createZstdDecompress
            ? through(parts, createZstdDecompress())
            : unzstd(parts);
    for await (const part of plain) {
      bytes += part.length;
      yield part;
    }
  } catch (cause) {
    if (cause instanceof UsageError) throw cause;
    const why = (cause as Error).message;
    const state = /unexpected e(nd of file|of)/i.test(why) ? 'is truncated' : `is corrupted (${why})`;
    const what = `the ${compression} stream ${state} after ${bytes} decompressed bytes`;
    throw new FormatError(`${sourceName(path)}: ${what}; copy or download the file again`, { cause });
  }
}
