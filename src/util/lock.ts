/**
 * One process at a time in a folder. The lock is the kernel's (flock), so that it ends with its process however that
 * ends; the file `.lock` only says who has it.
 */
import {
  closeSync,
  existsSync,
  constants as fsConstants,
  fstatSync,
  ftruncateSync,
  openSync,
  readSync,
  rmdirSync,
  rmSync,
  statSync,
  writeSync,
} from 'node:fs';
import { constants, hostname } from 'node:os';
import { join } from 'node:path';
import { UsageError } from './errors.ts';
import { bindSystem, type NativeFunction, systemError } from './native.ts';
import { makeFolder, writeError } from './new_file.ts';

const EXCLUSIVE = 2;
const NOT_BLOCKING = 4;

let flock: NativeFunction | undefined;

/**
 * Makes a folder if need be and keeps it for this process; the function that is returned gives it back. `remedy` ends
 * the message for the process that comes second; `name` is the lock's file.
 * @throws UsageError naming the process that has the folder
 */
export function lockFolder(folder: string, remedy: string, name = '.lock'): () => void {
  const isNew = !existsSync(folder);
  makeFolder(folder);
  const path = join(folder, name);
  const file = lockFile(path, folder, remedy);
  const owner = Buffer.from(`${process.pid} ${hostname()}\n`);
  try {
    ftruncateSync(file);
    writeSync(file, owner, 0, owner.length, 0);
  } catch (cause) {
    closeSync(file);
    throw writeError(path, cause);
  }
  return () => {
    rmSync(path, { force: true });
    closeSync(file);
    if (isNew) removeEmpty(folder);
  };
}

function lockFile(path: string, folder: string, remedy: string): number {
  flock ??= bindSystem('int flock(int fd, int operation)');
  for (;;) {
    let file: number;
    try {
      file = openSync(path, fsConstants.O_RDWR | fsConstants.O_CREAT, 0o644);
    } catch (cause) {
      throw writeError(path, cause);
    }
    const busy = flock(file, EXCLUSIVE | NOT_BLOCKING) !== 0 && systemError() === constants.errno.EWOULDBLOCK;
    // A file system without locks (another error) has to do without.
    if (!busy) {
      if (statSync(path, { throwIfNoEntry: false })?.ino === fstatSync(file).ino) return file;
      closeSync(file); // its owner removed it between our opening and locking it
      continue;
    }
    const owner = Buffer.alloc(300);
    const [pid, host] = owner
      .toString('utf8', 0, readSync(file, owner, 0, owner.length, 0))
      .trim()
      .split(' ');
    closeSync(file);
    throw new UsageError(
      `${folder}: is in use by ${pid ? `process ${pid} on ${host}` : 'another process'}; wait until it ends, ${pid ? `stop it (kill ${pid})` : 'stop it'}, or ${remedy}`,
    );
  }
}

function removeEmpty(folder: string): void {
  try {
    rmdirSync(folder);
  } catch {
    // it is not empty: what was made in it stays
  }
}
