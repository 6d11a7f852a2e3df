/**
 * Files that appear complete or not at all: bytes go to a temporary file beside the path, which is flushed to the disk
 * and renamed. Whatever happens on the way, what was at the path before stays as it was.
 */
import {
  closeSync,
  existsSync,
  fsyncSync,
  mkdirSync,
  openSync,
  renameSync,
  rmSync,
  statSync,
  writeSync,
} from 'node:fs';
import { dirname } from 'node:path';
import { UsageError } from './errors.ts';

/** The error of a write that failed: which path, why, what to do. */
export function writeError(path: string, cause: unknown, what = 'cannot be written'): UsageError {
  const { code, message } = cause as NodeJS.ErrnoException;
  const folder = dirname(path);
  if (isDiskFull(cause))
    return new UsageError(
      `${path}: no space left in ${folder}; finished files are kept: free some space and run the same command again`,
      { cause },
    );
  if (code === 'EACCES' || code === 'EPERM' || code === 'EROFS')
    return new UsageError(
      `${path}: ${what}: ${folder} does not allow it (${code}); change its permissions or name another folder`,
      { cause },
    );
  return new UsageError(`${path}: ${what}: ${message}`, { cause });
}

/** Whether an error, or what caused it, says that there is no space left. */
export function isDiskFull(error: unknown): boolean {
  for (let at = error; at instanceof Error; at = at.cause) {
    const { code } = at as NodeJS.ErrnoException;
    if (code === 'ENOSPC' || code === 'EDQUOT') return true;
  }
  return false;
}

/** Makes a folder and those above it. @throws UsageError if it cannot be made */
export function makeFolder(path: string): void {
  if (existsSync(path)) {
    if (statSync(path).isDirectory()) return;
    throw new UsageError(`${path}: is a file, expected a folder or a name that is free`);
  }
  // Not `recursive`: that never returns where a file system such as /proc says that the folder above is missing.
  if (!existsSync(dirname(path))) makeFolder(dirname(path));
  try {
    mkdirSync(path);
  } catch (cause) {
    if ((cause as NodeJS.ErrnoException).code === 'EEXIST' && statSync(path).isDirectory()) return; // another was faster
    throw writeError(path, cause, 'cannot be made');
  }
}

/** Waits until a file, or the names in a folder, are on the disk. */
export function flush(path: string): void {
  const fd = openSync(path, 'r');
  try {
    fsyncSync(fd);
  } finally {
    closeSync(fd);
  }
}

/** A file being written. Every error removes the temporary file; after one, only `abandon` may be called. */
export class NewFile {
  readonly path: string;
  private readonly temporary: string;
  private fd = -1;

  /** @throws UsageError if the file cannot be created */
  constructor(path: string) {
    this.path = path;
    this.temporary = `${path}.tmp`; // the same for every process: what a killed one left is written over
    this.guard(() => {
      this.fd = openSync(this.temporary, 'w');
    });
  }

  /** Adds bytes at the end, or replaces those at `position`. @throws UsageError for a full disk */
  write(bytes: Uint8Array, position: number | null = null): void {
    this.guard(() => {
      for (let done = 0; done < bytes.length; )
        done += writeSync(this.fd, bytes, done, bytes.length - done, position === null ? null : position + done);
    });
  }

  /** Gives the file its name. @throws UsageError for a full disk */
  finish(): void {
    this.guard(() => {
      fsyncSync(this.fd);
      this.close();
      renameSync(this.temporary, this.path);
      flush(dirname(this.path));
    });
  }

  /** Gives up; does nothing after `finish`. */
  abandon(): void {
    if (this.fd < 0) return;
    this.close();
    rmSync(this.temporary, { force: true });
  }

  private close(): void {
    const { fd } = this;
    this.fd = -1;
    closeSync(fd);
  }

  private guard(work: () => void): void {
    try {
      work();
    } catch (cause) {
      if (this.fd >= 0) this.close();
      rmSync(this.temporary, { force: true });
      throw writeError(this.path, cause);
    }
  }
}

/** Writes a whole file. @throws UsageError if it cannot be written; what was there stays */
export function writeWhole(path: string, content: string | Uint8Array): void {
  const file = new NewFile(path);
  file.write(typeof content === 'string' ? Buffer.from(content) : content);
  file.finish();
}
