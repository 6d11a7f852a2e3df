/**
 * Folders that are replaced as a whole. The new one is written beside the old one; then the old one steps aside and the new
 * one takes its name. A process that dies in between leaves both complete under other names: `recoverFolder` puts the old
 * one back.
 */
import { existsSync, renameSync, rmSync } from 'node:fs';
import { dirname } from 'node:path';
import { flush } from './new_file.ts';

const newOf = (folder: string) => `${folder}.tmp`;
const oldOf = (folder: string) => `${folder}.old`;

/** Undoes what a killed `replaceFolder` left half done: the folder is there again if it ever was. */
export function recoverFolder(folder: string): void {
  if (!existsSync(folder) && existsSync(oldOf(folder))) renameSync(oldOf(folder), folder);
  for (const left of [newOf(folder), oldOf(folder)]) rmSync(left, { recursive: true, force: true });
}

/** Replaces a folder by one whose files `write` puts into the folder that it is given; a failed `write` changes nothing. */
export async function replaceFolder(folder: string, write: (into: string) => Promise<void>): Promise<void> {
  recoverFolder(folder);
  try {
    await write(newOf(folder));
  } catch (error) {
    rmSync(newOf(folder), { recursive: true, force: true });
    throw error;
  }
  if (existsSync(folder)) renameSync(folder, oldOf(folder));
  renameSync(newOf(folder), folder);
  flush(dirname(folder));
  rmSync(oldOf(folder), { recursive: true, force: true });
}
