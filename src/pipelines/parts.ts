/** What every task has at hand: a model, a tokenizer, and checks of what a call brings. */
import type { PretrainedT5 } from '../model/pretrained.ts';
import type { Tokenizer } from '../tokenizer/tokenizer.ts';
import { UsageError } from '../util/errors.ts';
import { suggestion } from '../util/suggest.ts';

export interface Parts<M extends PretrainedT5> {
  task: string;
  model: M;
  tokenizer: Tokenizer;
  /** Rows that the model gets at a time; texts of similar length share a batch. */
  batch_size: number;
}

export type Texts = string | readonly string[];

/** A result for a text, or a list of them for a list of texts. */
export type Each<T extends Texts, One> = T extends string ? One : One[];

/** The texts of a call as a list. @throws UsageError if there is none or one is no text */
export function textsOf(who: string, texts: Texts, what = 'a text'): readonly string[] {
  const list = typeof texts === 'string' ? [texts] : texts;
  if (!Array.isArray(list)) throw new UsageError(`${who}: got ${kindOf(texts)}, expected ${what} or an array of them`);
  if (list.length === 0) throw new UsageError(`${who}: an empty array, expected ${what} or several`);
  const wrong = list.findIndex((text) => typeof text !== 'string');
  if (wrong >= 0) throw new UsageError(`${who}: element ${wrong} is ${kindOf(list[wrong])}, expected ${what}`);
  return list;
}

const kindOf = (value: unknown) => (value === null ? 'null' : Array.isArray(value) ? 'an array' : typeof value);

/** @throws UsageError for an option that the task does not have, with the nearest one */
export function checkOptions(who: string, options: object, known: readonly string[]): void {
  for (const name of Object.keys(options))
    if (!known.includes(name)) throw new UsageError(`${who}: unknown option ${name}, ${suggestion(name, known)}`);
}

/** @throws UsageError if a number of things is not a whole number from 1 */
export function checkCount(who: string, name: string, value: number): void {
  if (!Number.isInteger(value) || value < 1)
    throw new UsageError(`${who}: ${name} is ${value}, expected a whole number from 1`);
}

export interface LengthOptions {
  /** Cut texts that are too long, as transformers.js does: true by default. */
  truncation?: boolean;
  /** Tokens of a text at most; the tokenizer's model_max_length when left out. */
  max_length?: number;
}

/** Ids of texts with their end token, cut to the model's limit; a notice says so once per process. */
export function encodeTexts(
  { task, tokenizer }: Parts<PretrainedT5>,
  texts: readonly string[],
  { truncation = true, max_length = tokenizer.model_max_length }: LengthOptions = {},
): number[][] {
  const { ids, offsets } = tokenizer.encodeBatch(texts);
  return texts.map((_, i) => {
    const row = [...ids.subarray(offsets[i], offsets[i + 1])];
    if (!truncation || row.length <= max_length) return row;
    noteCut(task, i, row.length, max_length);
    return [...row.slice(0, max_length - 1), tokenizer.eos_token_id];
  });
}

const noted = new Set<string>();

/** Says that a text was cut, on standard error, the first time that it happens in a task. */
export function noteCut(task: string, index: number, length: number, limit: number): void {
  if (noted.has(task)) return;
  noted.add(task);
  process.emitWarning(
    `${task}: text ${index} has ${length} tokens and was cut to ${limit}; set tokenizer.model_max_length to read more`,
    'Fat5Warning',
  );
}

/** Name of a class as transformers has it. */
export const labelOf = ({ config }: PretrainedT5, index: number): string =>
  config.id2label?.[index] ?? `LABEL_${index}`;
