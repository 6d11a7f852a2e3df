/**
 * Rows of labelled data: JSON Lines, CSV and TSV with a header line, CoNLL (a token and its columns a line, a blank line
 * between sentences); plain, gzip or zstd; files, folders and globs.
 */
import { parse } from 'csv-parse';
import { openBytes } from '../data/decompress.ts';
import { expandSources } from '../data/glob.ts';
import { readTextLines } from '../data/read.ts';
import { FormatError, UsageError } from '../util/errors.ts';

/** One row as it was read. */
export interface Row {
  /** "path:line" or "argument 2", for errors. */
  place: string;
  values: Readonly<Record<string, unknown>>;
}

type Format = 'jsonl' | 'csv' | 'tsv' | 'conll';
const endings: Record<string, Format> = {
  jsonl: 'jsonl',
  ndjson: 'jsonl',
  csv: 'csv',
  tsv: 'tsv',
  conll: 'conll',
  conllu: 'conll',
  bio: 'conll',
};

const knownFormat = (path: string): Format | undefined =>
  endings[/\.([a-z]+)(\.(gz|zst))?$/i.exec(path)?.[1]?.toLowerCase() ?? ''];

/** Whether a file has rows with columns, by its name. */
export const hasColumns = (path: string): boolean => knownFormat(path) !== undefined;

function formatOf(path: string): Format {
  const format = knownFormat(path);
  if (!format)
    throw new UsageError(
      `${path}: unknown kind of file, expected one of .${Object.keys(endings).join(', .')} (.gz, .zst)`,
    );
  return format;
}

/**
 * The rows of files, in order. @param needed columns that every row must have @param remedy for a row without them
 * @throws UsageError for a missing file or column, naming the columns there are; FormatError for a damaged file
 */
export async function* readRows(
  sources: readonly string[],
  needed: readonly string[],
  remedy = "name one of them in the task's settings",
): AsyncGenerator<Row> {
  for (const { path } of expandSources(sources)) {
    for await (const row of read(path, formatOf(path))) {
      const missing = needed.find((column) => row.values[column] === undefined || row.values[column] === null);
      if (missing !== undefined && missing in row.values)
        throw new UsageError(
          `${row.place}: column "${missing}" is null, expected a value; remove the row or repair it`,
        );
      if (missing !== undefined)
        throw new UsageError(
          `${row.place}: no column "${missing}", it has ${Object.keys(row.values).join(', ') || 'none'}; ${remedy}`,
        );
      yield row;
    }
  }
}

/** All rows, at most `limit`. @throws as readRows, and UsageError if there is none */
export async function allRows(
  sources: readonly string[],
  needed: readonly string[],
  limit = Number.POSITIVE_INFINITY,
): Promise<Row[]> {
  const rows: Row[] = [];
  for await (const row of readRows(sources, needed)) {
    rows.push(row);
    if (rows.length >= limit) break;
  }
  if (rows.length === 0) throw new UsageError(`${sources.join(', ')}: no rows, expected at least one`);
  return rows;
}

function read(path: string, format: Format): AsyncGenerator<Row> {
  if (format === 'jsonl') return jsonRows(path);
  return format === 'conll' ? conllRows(path) : tableRows(path, format === 'csv' ? ',' : '\t');
}

async function* textLines(path: string): AsyncGenerator<{ place: string; text: string }> {
  for await (const { first, lines } of readTextLines(path))
    for (const [i, text] of lines.entries()) yield { place: `${path}:${first + i}`, text };
}

async function* jsonRows(path: string): AsyncGenerator<Row> {
  for await (const { place, text } of textLines(path)) {
    if (text.trim() !== '') yield { place, values: jsonObject(text, place) };
  }
}

/** The fields of a JSON line. @throws FormatError */
export function jsonObject(line: string, place: string): Record<string, unknown> {
  let value: unknown;
  try {
    value = JSON.parse(line);
  } catch (cause) {
    throw new FormatError(`${place}: invalid JSON (${(cause as Error).message})`, { cause });
  }
  if (typeof value !== 'object' || value === null || Array.isArray(value))
    throw new FormatError(`${place}: not a JSON object, expected one row a line`);
  return value as Record<string, unknown>;
}

async function* tableRows(path: string, delimiter: string): AsyncGenerator<Row> {
  const parser = parse({ columns: true, bom: true, delimiter, info: true, skip_empty_lines: true });
  const feeding = (async () => {
    for await (const part of openBytes(path, () => {}))
      if (!parser.write(part)) await new Promise((go) => parser.once('drain', go));
    parser.end();
  })();
  feeding.catch((error: Error) => parser.destroy(error));
  try {
    for await (const { record, info } of parser as AsyncIterable<{ record: Row['values']; info: { lines: number } }>)
      yield { place: `${path}:${info.lines}`, values: record };
  } catch (cause) {
    if (cause instanceof UsageError || cause instanceof FormatError) throw cause;
    throw new FormatError(`${path}: not a table: ${(cause as Error).message}`, { cause });
  }
}

/** Sentences with the columns `tokens` (the first field of a line) and `tags` (the last). */
async function* conllRows(path: string): AsyncGenerator<Row> {
  let tokens: string[] = [];
  let tags: string[] = [];
  let begin = '';
  for await (const { place, text } of textLines(path)) {
    if (text.startsWith('#') || text.startsWith('-DOCSTART-')) continue;
    if (text.trim() === '') {
      if (tokens.length > 0) yield { place: begin, values: { tokens, tags } };
      [tokens, tags] = [[], []];
      continue;
    }
    const fields = text.split(/\t| +/).filter((field) => field !== '');
    const numbered = /^\d+$/.test(fields[0]!) && fields.length > 2; // CoNLL-U counts the words of a sentence
    if (fields.length < 2) throw new FormatError(`${place}: "${text.slice(0, 40)}", expected a token and its tag`);
    if (tokens.length === 0) begin = place;
    tokens.push(fields[numbered ? 1 : 0]!);
    tags.push(fields.at(-1)!);
  }
  if (tokens.length > 0) yield { place: begin, values: { tokens, tags } };
}

/** A column's text. @throws UsageError */
export function textOf(row: Row, column: string): string {
  const value = row.values[column];
  if (typeof value !== 'string')
    throw new UsageError(`${row.place}: column "${column}" is ${JSON.stringify(value)?.slice(0, 80)}, expected a text`);
  return value;
}

/** A column's number, also where a table holds it as text. @throws UsageError */
export function numberOf(row: Row, column: string): number {
  const value = row.values[column];
  const number = typeof value === 'string' && value.trim() !== '' ? Number(value) : value;
  if (typeof number !== 'number' || !Number.isFinite(number))
    throw new UsageError(`${row.place}: column "${column}" is ${JSON.stringify(value)}, expected a number`);
  return number;
}

/** A column's list of texts or numbers, as texts; one value counts as a list of one. @throws UsageError */
export function listOf(row: Row, column: string): string[] {
  const value = row.values[column];
  const list = Array.isArray(value) ? value : [value];
  if (!list.every((item) => ['string', 'number', 'boolean'].includes(typeof item)))
    throw new UsageError(
      `${row.place}: column "${column}" is ${JSON.stringify(value)?.slice(0, 80)}, expected a list of texts or numbers`,
    );
  return list.map(String);
}
