/**
 * Documents of text and JSON Lines files, streamed. Text: the whole file is one document, or every line, or every
 * paragraph (blank-line). JSON Lines: one object per line, its text in `field`.
 */
import { isUtf8 } from 'node:buffer';
import { FormatError, UsageError } from '../util/errors.ts';
import { type OnBytes, openBytes, sourceName } from './decompress.ts';

export interface ReadOptions {
  /** 'text' or 'jsonl' for every source; by the file's name when absent. */
  format?: 'text' | 'jsonl';
  /** JSON Lines: the field that holds the text. Default "text". */
  field?: string;
  /** Text files: what one document is. Default 'file'; standard input 'line'. */
  document?: 'file' | 'line' | 'blank-line';
  /** Unusable lines are counted and left out instead of ending the run. Default false. */
  skip_bad?: boolean;
}

/** What was found: a document, or (only with skip_bad) why a record is unusable. `line` counts from one. */
export type DocumentRecord = { line: number; text: string } | { line: number; bad: string };

/** A document, or a line, above this is an error: a text that large is a file given the wrong `document`. */
const LARGEST_BYTES = 2 ** 28;

interface Line {
  number: number;
  bytes: Buffer;
}

/** The lines of a file, numbered from one, without their line feed. @throws FormatError for one of absurd length */
async function* readLines(path: string, onBytes: OnBytes): AsyncGenerator<Line> {
  let number = 0;
  let pending: Buffer[] = [];
  let pendingBytes = 0;
  for await (const part of openBytes(path, onBytes)) {
    let start = 0;
    for (let end = part.indexOf(10); end >= 0; end = part.indexOf(10, start)) {
      const tail = part.subarray(start, end);
      yield { number: ++number, bytes: pending.length > 0 ? Buffer.concat([...pending, tail]) : tail };
      pending = [];
      pendingBytes = 0;
      start = end + 1;
    }
    if (start < part.length) {
      pending.push(part.subarray(start));
      pendingBytes += part.length - start;
      if (pendingBytes > LARGEST_BYTES) throw tooLong(path, number + 1);
    }
  }
  if (pending.length > 0) yield { number: ++number, bytes: Buffer.concat(pending) };
}

const tooLong = (path: string, line: number) =>
  new FormatError(`${sourceName(path)}:${line}: a line of more than ${LARGEST_BYTES} bytes, expected text lines`);

const withoutMark = (text: string): string => (text.charCodeAt(0) === 0xfeff ? text.slice(1) : text);

/** Lines without their ends and the byte order mark; `first` is the number of the first one, counted from one. */
export interface TextLines {
  first: number;
  lines: readonly string[];
}

/** The lines of a text file as they arrive, those of one read together. @throws FormatError naming a line that is not UTF-8 */
export async function* readTextLines(path: string): AsyncGenerator<TextLines> {
  let first = 1;
  let pending: Buffer[] = [];
  let pendingBytes = 0;
  for await (const part of openBytes(path, () => {})) {
    const end = part.lastIndexOf(10);
    if (end >= 0) {
      const lines = linesOf(Buffer.concat([...pending, part.subarray(0, end)]), path, first);
      yield { first, lines };
      first += lines.length;
      pending = [];
      pendingBytes = 0;
    }
    const rest = part.subarray(end + 1);
    if (rest.length > 0) pending.push(rest);
    pendingBytes += rest.length;
    if (pendingBytes > LARGEST_BYTES) throw tooLong(path, first);
  }
  if (pending.length > 0) yield { first, lines: linesOf(Buffer.concat(pending), path, first) };
}

function linesOf(bytes: Buffer, path: string, first: number): string[] {
  if (!isUtf8(bytes)) {
    const before = bytes.toString('latin1').split('\n'); // byte for byte
    const line = before.findIndex((text) => !isUtf8(Buffer.from(text, 'latin1')));
    throw new FormatError(`${sourceName(path)}:${first + line}: invalid UTF-8, expected text in UTF-8`);
  }
  const text = bytes.toString('utf8');
  return (first === 1 ? withoutMark(text) : text).split('\n').map((line) => line.replace(/\r$/, ''));
}

/** The text of one JSON line, null for a blank one. @throws FormatError saying what is wrong with it */
function textOfJson(bytes: Buffer, field: string): string | null {
  if (!isUtf8(bytes)) throw new FormatError('invalid UTF-8');
  const line = withoutMark(bytes.toString('utf8'));
  if (line.trim() === '') return null;
  let value: unknown;
  try {
    value = JSON.parse(line);
  } catch (cause) {
    throw new FormatError(`invalid JSON (${(cause as Error).message})`, { cause });
  }
  if (typeof value !== 'object' || value === null || Array.isArray(value)) throw new FormatError('not a JSON object');
  const text = (value as Record<string, unknown>)[field];
  if (text === undefined)
    throw new FormatError(`no field "${field}", it has ${Object.keys(value).slice(0, 8).join(', ') || 'none'}`);
  if (typeof text !== 'string') throw new FormatError(`field "${field}" is not a string`);
  return text;
}

function textOfBytes(bytes: Buffer): string {
  if (!isUtf8(bytes)) throw new FormatError('invalid UTF-8');
  return withoutMark(bytes.toString('utf8'));
}

/** How a file is read: as asked, else by its name. @throws UsageError for an unknown ending */
export function formatOf(path: string, options: Pick<ReadOptions, 'format'>): 'text' | 'jsonl' {
  if (options.format) return options.format;
  const name = path.replace(/\.(gz|zst)$/i, '');
  if (/\.(jsonl|ndjson)$/i.test(name)) return 'jsonl';
  if (path === '-' || /\.(txt|text|md|markdown|rst)$/i.test(name)) return 'text';
  throw new UsageError(
    `${path}: unknown kind of file, expected .txt, .md, .rst or .jsonl, or format: text or jsonl (--format)`,
  );
}

/**
 * The documents of one file in order ('-': standard input). Empty ones are left out.
 * @throws FormatError naming file and line for an unusable line (unless skip_bad) or a damaged file
 */
export async function* readDocuments(
  path: string,
  options: ReadOptions = {},
  onBytes: OnBytes = () => {},
): AsyncGenerator<DocumentRecord> {
  const format = formatOf(path, options);
  const unit = options.document ?? (path === '-' ? 'line' : 'file');
  const field = options.field ?? 'text';
  function* record(line: number, bytes: Buffer): Generator<DocumentRecord> {
    try {
      const text = format === 'jsonl' ? textOfJson(bytes, field) : textOfBytes(bytes);
      if (text !== null && text.trim() !== '') yield { line, text };
    } catch (cause) {
      const why = (cause as Error).message;
      const remedy = 'repair it, or leave such lines out with skip_bad (--skip-bad)';
      if (!options.skip_bad) throw new FormatError(`${sourceName(path)}:${line}: ${why}; ${remedy}`, { cause });
      yield { line, bad: why };
    }
  }
  if (format === 'jsonl' || unit === 'line') {
    for await (const { number, bytes } of readLines(path, onBytes)) yield* record(number, bytes);
    return;
  }
  let parts: Buffer[] = [];
  let size = 0;
  let first = 1;
  for await (const { number, bytes } of readLines(path, onBytes)) {
    const blank = unit === 'blank-line' && bytes.every((byte) => byte === 32 || byte === 9 || byte === 13);
    if (blank) {
      if (parts.length > 0) yield* record(first, Buffer.concat(parts));
      parts = [];
      size = 0;
      continue;
    }
    if (parts.length === 0) first = number;
    else parts.push(newline);
    parts.push(bytes);
    size += bytes.length + 1;
    if (size > LARGEST_BYTES)
      throw new UsageError(
        `${sourceName(path)}: one document of more than ${LARGEST_BYTES} bytes; give document: line or document: blank-line`,
      );
  }
  if (parts.length > 0) yield* record(first, Buffer.concat(parts));
}

const newline = Buffer.from('\n');
