/** Texts that commands read, one row each, and JSON lines that they write: in the order of the input. */
import { createInterface } from 'node:readline';
import { devices } from '../backend/devices.ts';
import { readLines } from '../data/read.ts';
import { hasColumns, jsonObject, type Row, readRows } from '../finetune/rows.ts';
import type { ModelOptions } from '../model/pretrained.ts';
import { dtypes } from '../model/storage.ts';
import { findModel } from '../train/model_folder.ts';
import { UsageError } from '../util/errors.ts';
import { choice, integer, many, optional, path, text } from './command.ts';

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
  folder: string;
  tokenizer: string;
  batch: number;
  options: Required<Pick<ModelOptions, 'device' | 'dtype'>>;
  rows: AsyncIterable<Row>;
}

/** What flags and arguments mean. @throws UsageError, FormatError if there is no model or nothing to read */
export async function openInput(command: string, flags: InputFlags, given: readonly string[]): Promise<Opened> {
  const { batch, column, device, dtype } = flags;
  if (batch < 1) throw new UsageError(`${command}: --batch: expected a number from 1, got ${batch}`);
  const [place, ...texts] = flags.model === undefined ? given : [flags.model, ...given];
  if (place === undefined)
    throw new UsageError(`${command}: expected a model's folder or a run's, such as runs/quickstart, then texts`);
  if (texts.length > 0 && flags.input.length > 0)
    throw new UsageError(`${command}: got texts and --input, expected one of them`);
  const folder = await findModel(place);
  const tokenizer = flags.tokenizer ?? folder;
  return { folder, tokenizer, batch, options: { device, dtype }, rows: rowsOf(texts, flags.input, column) };
}

async function* rowsOf(texts: readonly string[], files: readonly string[], column: string): AsyncGenerator<Row> {
  if (texts.length > 0) for (const [i, value] of texts.entries()) yield row(`argument ${i + 1}`, value);
  else if (files.length > 0)
    for (const file of files)
      if (hasColumns(file)) yield* readRows([file], [column]);
      else
        for await (const { number, bytes } of readLines(file, () => {}))
          yield row(`${file}:${number}`, bytes.toString('utf8').replace(/\r$/, ''));
  else yield* standardInput();
}

/** A line of text as a row. */
const row = (place: string, value: string): Row => ({ place, values: { text: value } });

/** Lines of standard input: JSON if the first one begins as an object does, else text. */
async function* standardInput(): AsyncGenerator<Row> {
  let number = 0;
  let isJson = false;
  for await (const line of createInterface({ input: process.stdin, crlfDelay: Number.POSITIVE_INFINITY })) {
    const place = `standard input:${++number}`;
    if (number === 1) isJson = line.startsWith('{');
    if (!isJson) yield row(place, line);
    else if (line.trim() !== '') yield { place, values: jsonObject(line, place) };
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

/** Batches that are read ahead, so that texts of similar length meet. */
const BATCHES_AHEAD = 32;

/** Answers rows in order as they are read: `answer` gets some at a time, `write` gets each with its answer. */
export async function answerRows<A>(
  { rows, batch }: Opened,
  answer: (rows: readonly Row[]) => Promise<readonly A[]>,
  write: (row: Row, answer: A) => void,
): Promise<void> {
  let waiting: Row[] = [];
  const flush = async () => {
    const answers = waiting.length > 0 ? await answer(waiting) : [];
    for (const [i, one] of waiting.entries()) write(one, answers[i]!);
    waiting = [];
  };
  for await (const one of rows) {
    waiting.push(one);
    if (waiting.length >= batch * BATCHES_AHEAD) await flush();
  }
  await flush();
}

/** Prints a row with what was found as one line of JSON. */
export const printRow = ({ values }: Row, found: object): void => {
  console.log(JSON.stringify({ ...values, ...found }));
};
