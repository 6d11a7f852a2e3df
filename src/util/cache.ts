/** Files that only save time: they may be deleted whenever nothing runs. */
import { mkdirSync, readFileSync, renameSync, writeFileSync } from 'node:fs';
import { homedir } from 'node:os';
import { dirname, join } from 'node:path';

/** FAT5_CACHE, or fat5 in the user's cache folder. */
export const cacheFolder = (): string =>
  process.env.FAT5_CACHE || join(process.env.XDG_CACHE_HOME || join(homedir(), '.cache'), 'fat5'); // empty is not set

/** A cached file's bytes, undefined where there is none. */
export function readCached(name: string): Uint8Array | undefined {
  try {
    return readFileSync(join(cacheFolder(), name));
  } catch {
    return undefined; // not there, or not for us: it is made again
  }
}

/** Keeps bytes under a name, complete or not at all; a folder that cannot be written is no error. */
export function writeCached(name: string, bytes: Uint8Array | string): void {
  const path = join(cacheFolder(), name);
  const temporary = `${path}.${process.pid}.tmp`;
  try {
    mkdirSync(dirname(path), { recursive: true });
    writeFileSync(temporary, bytes);
    renameSync(temporary, path);
  } catch {
    // read-only or full: the next process makes it again
  }
}
