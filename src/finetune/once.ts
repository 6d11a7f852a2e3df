/**
 * Results that are made once, a part at a time, and kept as JSON Lines: a process that was stopped leaves the parts that it
 * finished, and the next one goes on from there with the same results. What they are about lies beside them, in NAME.about.
 */
import { createHash } from 'node:crypto';
import { appendFileSync, existsSync, readFileSync, rmSync, truncateSync } from 'node:fs';
import { dirname } from 'node:path';
import { makeFolder, writeError, writeWhole } from '../util/new_file.ts';

export interface Once<R> {
  path: string;
  /** What the results depend on; a file that was made for something else is made again. */
  about: unknown;
  /** How many results there are, and how many are made at a time. */
  count: number;
  part: number;
  make(from: number, to: number): Promise<R[]>;
  note(line: string): void;
  /** What is being made, such as "targets". */
  what: string;
  progress(line: string): void;
  signal: AbortSignal;
}

/** All results; undefined where the signal ended it, after the part in work. @throws UsageError if the file cannot be written */
export async function madeOnce<R>(once: Once<R>): Promise<R[] | undefined> {
  const { path, count, part, what, signal } = once;
  const about = createHash('sha256').update(JSON.stringify(once.about)).digest('hex');
  const isSame = existsSync(`${path}.about`) && readFileSync(`${path}.about`, 'utf8') === about;
  if (!isSame) {
    if (existsSync(path)) once.note(`${path} is about other rows or another model; it is made again`);
    makeFolder(dirname(path));
    rmSync(path, { force: true });
    writeWhole(`${path}.about`, about);
  }
  const found = stored<R>(path, part, count);
  const before = found.length;
  while (found.length < count) {
    if (found.length > before && signal.aborted) return undefined;
    once.progress(`${what}: ${found.length} of ${count}`);
    const made = await once.make(found.length, Math.min(count, found.length + part));
    try {
      appendFileSync(path, made.map((result) => `${JSON.stringify(result)}\n`).join(''));
    } catch (cause) {
      throw writeError(path, cause);
    }
    found.push(...made);
  }
  return found;
}

/** The results of whole parts, behind which the file is cut off. */
function stored<R>(path: string, part: number, count: number): R[] {
  if (!existsSync(path)) return [];
  const text = readFileSync(path, 'utf8');
  const lines = text
    .slice(0, text.lastIndexOf('\n') + 1)
    .split('\n')
    .slice(0, -1);
  const kept = lines.slice(0, lines.length >= count ? count : lines.length - (lines.length % part));
  truncateSync(
    path,
    kept.reduce((bytes, line) => bytes + Buffer.byteLength(line) + 1, 0),
  );
  return kept.map((line) => JSON.parse(line) as R);
}
