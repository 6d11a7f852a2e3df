/**
 * Results that are made once, a part at a time, and kept as JSON Lines: a process that was stopped leaves the parts that it
 * finished, and the next one goes on from there with the same results. The first line says what the others are about.
 */
import { createHash } from 'node:crypto';
import { appendFileSync, existsSync, readFileSync, truncateSync } from 'node:fs';
import { writeError, writeWhole } from '../util/new_file.ts';

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
  const first = JSON.stringify({ about: createHash('sha256').update(JSON.stringify(once.about)).digest('hex') });
  let found = stored<R>(path, first, part, count);
  if (!found) {
    if (existsSync(path)) once.note(`${path} is about other rows or another model; it is made again`);
    writeWhole(path, `${first}\n`);
    found = [];
  }
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

/** The results of whole parts, behind which the file is cut off; undefined where it is about something else. */
function stored<R>(path: string, first: string, part: number, count: number): R[] | undefined {
  if (!existsSync(path)) return undefined;
  const text = readFileSync(path, 'utf8');
  const lines = text
    .slice(0, text.lastIndexOf('\n') + 1)
    .split('\n')
    .slice(0, -1);
  if (lines.shift() !== first) return undefined;
  const whole = lines.length >= count ? count : lines.length - (lines.length % part);
  const kept = lines.slice(0, whole);
  truncateSync(path, Buffer.byteLength(`${[first, ...kept].join('\n')}\n`));
  return kept.map((line) => JSON.parse(line) as R);
}
