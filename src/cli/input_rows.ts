/** Texts that commands read, one row each, and JSON lines that they write: in the order of the input. */
import { setTimeout as wait } from 'node:timers/promises';
import { devices } from '../backend/devices.ts';
import { sourceName } from '../data/decompress.ts';
import { readTextLines } from '../data/read.ts';
import { hasColumns, jsonObject, type Row, readRows } from '../finetune/rows.ts';
import type { ModelOptions } from '../model/pretrained.ts';
import { dtypes } from '../model/storage.ts';
import { UsageError } from '../util/errors.ts';
import { choice, integer, many, optional, path, text } from './command.ts';
import { modelAt } from './places.ts';
import { ProgressBar } from './progress_bar.ts';
import { standardInputLines } from './standard_input.ts';

export const inputUsage = {
  usage: 'MODEL [TEXT …]',
  doc: "a model's folder, a run's or a name on the hub, then texts; lines of standard input when there are none",
};

/** Flags of every command that reads texts. */
export const inputFlags = {
  model: optional(path('folder of a model or of a run; every argument is a text then')),
  tokenizer: optional(path("folder with a tokenizer, or a name on the hub; the model's own when left out")),
  input: many(path('files to read instead: lines of text, or .jsonl, .csv, .tsv, .conll')),
  column: text('field of the text in JSON lines and tables', 'text'),
  batch: integer('texts at a time; those of similar length go together', 16),
  device: choice('where the model runs', devices, 'auto'),
  dtype: choice('type of weights and activations', dtypes, 'float32'),
};

interface InputFlags {
  model: string | undefined;
  tokenizer: string | undefined;
  input: readonly string[];
  column: string;
  batch: number;
  device: NonNullable<ModelOptions['device']>;
  dtype: NonNullable<ModelOptions['dtype']>;
}

export interface Opened {
  command: string;
  folder: string;
  tokenizer: string;
  batch: number;
  options: Required<Pick<ModelOptions, 'device' | 'dtype'>>;
  /** Rows as they arrive. */
  rows: AsyncIterable<readonly Row[]>;
  /** What the rows are read from, for errors. */
  source: string;
}

/** What flags and arguments mean. @throws UsageError, FormatError if there is no model or nothing to read */
export async function openInput(command: string, flags: InputFlags, given: readonly string[]): Promise<Opened> {
  const { batch, column, device, dtype, input } = flags;
  if (batch < 1) throw new UsageError(`${command}: --batch: expected a number from 1, got ${batch}`);
  const [place, ...texts] = flags.model === undefined ? given : [flags.model, ...given];
  if (place === undefined)
    throw new UsageError(`${command}: expected a model's folder or a run's, such as runs/quickstart, then texts`);
  if (texts.length > 0 && input.length > 0)
    throw new UsageError(`${command}: got texts and --input, expected one of them`);
  const folder = await modelAt(place);
  const tokenizer = flags.tokenizer ?? folder;
  const rows = rowsOf(command, texts, input, column);
  const source = input.length > 0 ? input.join(' ') : 'standard input';
  return { command, folder, tokenizer, batch, options: { device, dtype }, rows, source };
}

async function* rowsOf(
  command: string,
  texts: readonly string[],
  files: readonly string[],
  column: string,
): AsyncGenerator<readonly Row[]> {
  if (texts.length > 0) yield texts.map((value, i) => row(`argument ${i + 1}`, value));
  else if (files.length === 0) yield* standardInput(command);
  for (const file of files)
    if (hasColumns(file))
      for await (const one of readRows([file], [column], 'name another one with --column')) yield [one];
    else
      for await (const { first, lines } of readTextLines(file))
        yield lines.map((value, i) => row(`${file}:${first + i}`, value));
}

/** A line of text as a row. */
const row = (place: string, value: string): Row => ({ place, values: { text: value } });

/** Lines of standard input: JSON if the first one begins as an object does, else text. */
async function* standardInput(command: string): AsyncGenerator<readonly Row[]> {
  let isJson: boolean | undefined;
  for await (const { first, lines } of standardInputLines(command)) {
    isJson ??= lines[0]!.startsWith('{');
    const rows = lines.map((line, i) => row(`${sourceName('-')}:${first + i}`, line));
    const isBlank = ({ values }: Row) => (values.text as string).trim() === '';
    yield isJson
      ? rows
          .filter((one) => !isBlank(one))
          .map(({ place, values }) => ({ place, values: jsonObject(values.text as string, place) }))
      : rows;
  }
}

/** A field's text. @throws UsageError naming the row and the fields that it has */
export function fieldOf({ place, values }: Row, column: string): string {
  // a line of text has one field, whatever the column's name
  const value = values[column] ?? (Object.keys(values).length === 1 ? values.text : undefined);
  if (typeof value === 'string') return value;
  const fields = Object.keys(values).join(', ') || 'none';
  throw new UsageError(`${place}: no text in "${column}", the row has ${fields}; name another one with --column`);
}

/** Batches that are read ahead, so that texts of similar length meet: at first few, so that answers come soon. */
const BATCHES_AHEAD = 32;
/** Milliseconds without a new row after which those that are here are answered: somebody may wait for that. */
const IDLE = 100;

/**
 * Answers rows in order as they are read: `answer` gets some at a time, with the number of the first, `write` gets each
 * with its answer. @throws UsageError if there are no rows
 */
export async function answerRows<A>(
  { command, rows, batch, source }: Opened,
  answer: (rows: readonly Row[], first: number) => Promise<readonly A[]>,
  write: (row: Row, answer: A) => void,
): Promise<void> {
  const bar = process.stdout.isTTY ? undefined : new ProgressBar(command);
  let waiting: Row[] = [];
  let answered = 0;
  let ahead = 1;
  const flush = async () => {
    for (let size = batch * ahead; waiting.length > 0; size = batch * ahead) {
      const some = waiting.slice(0, size);
      waiting = waiting.slice(size);
      const answers = await answer(some, answered);
      for (const [i, one] of some.entries()) write(one, answers[i]!);
      answered += some.length;
      ahead = Math.min(2 * ahead, BATCHES_AHEAD);
      bar?.update(undefined, `${answered} rows`);
    }
  };
  const arriving = rows[Symbol.asyncIterator]();
  try {
    for (;;) {
      const next = arriving.next();
      next.catch(() => {}); // thrown where it is awaited
      if (waiting.length >= batch * ahead || (waiting.length > 0 && (await isSlow(next)))) await flush();
      const { done, value } = await next;
      if (done) break;
      waiting.push(...value);
    }
    await flush();
  } finally {
    bar?.done();
  }
  if (answered === 0) throw new UsageError(`${command}: ${source} is empty, expected lines of text or JSON`);
}

/** Whether something takes longer than people like to wait. */
async function isSlow(next: Promise<unknown>): Promise<boolean> {
  const waiting = new AbortController();
  const slow = wait(IDLE, true, { signal: waiting.signal }).catch(() => true);
  const found = await Promise.race([next.then(() => false), slow]);
  waiting.abort();
  return found;
}

/** Prints a row with what was found as one line of JSON. */
export const printRow = ({ values }: Row, found: object): void => {
  console.log(JSON.stringify({ ...values, ...found }));
};
