/** One file of the hub into the cache: what was left of an earlier try goes on, and the checksum is proved at the end. */
import { createHash, type Hash } from 'node:crypto';
import { closeSync, existsSync, fsyncSync, openSync, readSync, renameSync, rmSync, statSync, writeSync } from 'node:fs';
import { dirname } from 'node:path';
import { setTimeout as wait } from 'node:timers/promises';
import { FormatError, UsageError } from '../util/errors.ts';
import { lockFolder } from '../util/lock.ts';
import { makeFolder, writeError } from '../util/new_file.ts';

/** A file as the hub lists it. */
export interface RemoteFile {
  path: string;
  url: string;
  size: number;
  /** SHA-256 of large files, the git object's SHA-1 of small ones; the blob's name in the cache. */
  etag: string;
}

/** How a file is fetched. */
export interface DownloadOptions {
  token: string | undefined;
  /** Told the bytes that are there after each piece. */
  onBytes: (bytes: number) => void;
}

/** Tries of one file, each going on where the one before broke off. */
const TRIES = 5;
/** Milliseconds before the second try; doubled every time. */
const FIRST_PAUSE = 200;
const PIECE = 1 << 20;

/**
 * Downloads a file to `blob` unless it is there. Another process that downloads the same file is waited for.
 * @throws UsageError if the hub refuses or the disk is full, FormatError if what arrives has another checksum
 */
export async function download(file: RemoteFile, blob: string, locks: string, options: DownloadOptions): Promise<void> {
  if (existsSync(blob)) return;
  makeFolder(dirname(blob));
  const unlock = await waitForLock(locks, `${file.etag}.lock`);
  try {
    if (existsSync(blob)) return; // another process was faster
    const partial = `${blob}.incomplete`;
    for (let attempt = 1; ; attempt++) {
      try {
        await fetchInto(partial, file, options);
        break;
      } catch (error) {
        if (error instanceof UsageError || attempt === TRIES)
          throw error instanceof UsageError ? error : unreachable(file, error as Error);
        await wait(FIRST_PAUSE * 2 ** (attempt - 1));
      }
    }
    prove(partial, file);
    renameSync(partial, blob);
  } finally {
    unlock();
  }
}

function unreachable({ url, path }: RemoteFile, error: Error): UsageError {
  const why = (error.cause as Error | undefined)?.message ?? error.message;
  return new UsageError(
    `${path}: the connection to ${new URL(url).host} broke off ${TRIES} times (${why}); what has arrived is kept: run the same command again`,
    { cause: error },
  );
}

async function waitForLock(folder: string, name: string): Promise<() => void> {
  for (;;) {
    try {
      return lockFolder(folder, 'wait', name);
    } catch (error) {
      if (!(error instanceof UsageError) || !/is in use by/.test(error.message)) throw error;
      await wait(FIRST_PAUSE);
    }
  }
}

async function fetchInto(partial: string, file: RemoteFile, { token, onBytes }: DownloadOptions): Promise<void> {
  let have = existsSync(partial) ? statSync(partial).size : 0;
  if (have > file.size) {
    rmSync(partial); // of another file
    have = 0;
  }
  onBytes(have);
  if (have === file.size && have > 0) return;
  const headers: Record<string, string> = { 'user-agent': 'fat5' };
  if (have > 0) headers.range = `bytes=${have}-`;
  if (token) headers.authorization = `Bearer ${token}`;
  const response = await fetch(file.url, { headers });
  if (!response.ok) {
    const text = `${file.path}: ${new URL(file.url).host} answers ${response.status} ${response.statusText}`;
    if (response.status >= 500 || response.status === 429) throw new Error(text);
    throw new UsageError(text);
  }
  const resumed = response.status === 206;
  if (!resumed) have = 0; // the server sends the whole file again
  const out = openSync(partial, resumed ? 'a' : 'w');
  try {
    for await (const piece of response.body as unknown as AsyncIterable<Uint8Array>) {
      try {
        for (let done = 0; done < piece.length; ) done += writeSync(out, piece, done);
      } catch (cause) {
        throw writeError(partial, cause);
      }
      have += piece.length;
      onBytes(have);
    }
    fsyncSync(out);
  } finally {
    closeSync(out);
  }
  if (have < file.size) throw new Error(`${have} of ${file.size} bytes arrived`);
}

/** @throws FormatError, after removing the file, if its checksum is not the hub's */
function prove(partial: string, { path, etag, size }: RemoteFile): void {
  const isGit = /^[0-9a-f]{40}$/.test(etag);
  if (!isGit && !/^[0-9a-f]{64}$/.test(etag)) return; // an endpoint that names contents in a way of its own
  const hash = isGit ? createHash('sha1').update(`blob ${size}\0`) : createHash('sha256');
  const found = ofFile(hash, partial);
  if (found === etag) return;
  rmSync(partial);
  throw new FormatError(
    `${path}: what arrived has ${isGit ? 'git hash' : 'SHA-256'} ${found}, expected ${etag}; run the same command again`,
  );
}

function ofFile(hash: Hash, path: string): string {
  const file = openSync(path, 'r');
  try {
    const piece = Buffer.allocUnsafe(PIECE);
    for (let n = readSync(file, piece); n > 0; n = readSync(file, piece)) hash.update(piece.subarray(0, n));
    return hash.digest('hex');
  } finally {
    closeSync(file);
  }
}
