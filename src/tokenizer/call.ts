/** `tokenizer(texts, options)`: truncation, special tokens, padding and the fields that were asked for. */
import { UsageError } from '../util/errors.ts';
import { once } from '../util/once.ts';
import { BatchEncoding, type IdTensor, idTensor } from './batch_encoding.ts';
import { type Encoding, emptyEncoding, pad, truncatePair } from './pipeline/encoding.ts';
import type { Truncation } from './schema.ts';
import type { Tokenizer } from './tokenizer.ts';

export type CallTexts = string | readonly string[];

export interface CallOptions {
  /** Second texts, one for each. */
  text_pair?: CallTexts;
  add_special_tokens?: boolean;
  split_special_tokens?: boolean;
  /** true or 'longest': to the longest row; 'max_length': to max_length. */
  padding?: boolean | 'longest' | 'max_length' | 'do_not_pad';
  padding_side?: 'left' | 'right';
  pad_to_multiple_of?: number;
  /** true is 'longest_first'. */
  truncation?: boolean | 'longest_first' | 'only_first' | 'only_second' | 'do_not_truncate';
  truncation_side?: 'left' | 'right';
  /** Tokens of a row, special tokens included; default model_max_length. */
  max_length?: number;
  /** Tokens that a row of overflow repeats of the row before. */
  stride?: number;
  /** What truncation cuts off becomes rows of its own. */
  return_overflowing_tokens?: boolean;
  return_offsets_mapping?: boolean;
  return_special_tokens_mask?: boolean;
  /** Default: as the model's files say; T5 has none. */
  return_token_type_ids?: boolean;
  return_attention_mask?: boolean;
  /** Tensors (the default), or arrays: nested when many texts were given. */
  return_tensor?: boolean;
}

const strategies = { longest_first: 'LongestFirst', only_first: 'OnlyFirst', only_second: 'OnlySecond' } as const;

/** @throws UsageError for options that contradict each other or the texts */
export function encodeCall(
  tokenizer: Tokenizer,
  texts: CallTexts,
  options: CallOptions,
): BatchEncoding<IdTensor | number[] | number[][]> {
  const many = typeof texts !== 'string';
  const first = many ? texts : [texts];
  const second = pairsOf(options.text_pair, first.length, many);
  const special = options.add_special_tokens !== false;
  const truncation = truncationOf(tokenizer, options, special && second ? 1 : 0);
  for (const text of [...first, ...(second ?? [])])
    if (typeof text !== 'string')
      throw new UsageError(`tokenizer: a text is ${typeof text}, expected a string or an array of strings`);
  const samples: number[] = [];
  const rows = once(() => {
    const whole = first.map((text, i) => encodeOne(tokenizer, text, second?.[i], truncation, options));
    const parts = whole.flatMap((encoding, i) => {
      const found = options.return_overflowing_tokens ? [encoding, ...encoding.overflowing] : [encoding];
      for (const _ of found) samples.push(i);
      return found.map((part) => ({ ...part, overflowing: [] }));
    });
    return padded(tokenizer, parts, options);
  });
  const fields =
    second || needsMore(tokenizer, options)
      ? rows()
      : padded(tokenizer, idsOf(tokenizer, first, truncation, options), options);
  return fieldsOf(tokenizer, fields, rows, samples, options, many);
}

/** Whether fields other than ids and attention mask are asked for. */
const needsMore = (tokenizer: Tokenizer, options: CallOptions) =>
  options.return_overflowing_tokens ||
  options.return_offsets_mapping ||
  options.return_special_tokens_mask ||
  (options.return_token_type_ids ?? hasTypes(tokenizer));

/** Encodings of ids and attention mask alone: native code gives no more. */
function idsOf(
  tokenizer: Tokenizer,
  texts: readonly string[],
  truncation: Truncation | undefined,
  options: CallOptions,
): Encoding[] {
  const split_special_tokens = options.split_special_tokens ?? false;
  const batch = tokenizer.encodeBatch(texts, { add_special_tokens: false, split_special_tokens });
  const { prefix, suffix } = options.add_special_tokens === false ? { prefix: [], suffix: [] } : tokenizer.around;
  return texts.map((_, i) => {
    let row: Encoding = { ...emptyEncoding(), ids: [...batch.ids.subarray(batch.offsets[i], batch.offsets[i + 1])] };
    if (truncation) [row] = truncatePair(row, undefined, truncation);
    const ids = [...prefix, ...row.ids, ...suffix];
    return { ...emptyEncoding(), ids, attention_mask: ids.map(() => 1) };
  });
}

function pairsOf(pairs: CallTexts | undefined, count: number, many: boolean): readonly string[] | undefined {
  if (pairs === undefined || pairs === null) return undefined;
  if ((typeof pairs !== 'string') !== many)
    throw new UsageError('tokenizer: text and text_pair must be both strings or both arrays');
  const found = typeof pairs === 'string' ? [pairs] : pairs;
  if (found.length !== count)
    throw new UsageError(`tokenizer: ${found.length} texts in text_pair, expected ${count}, one for each text`);
  return found;
}

function truncationOf(tokenizer: Tokenizer, options: CallOptions, pair: 0 | 1): Truncation | undefined {
  const { truncation, stride = 0, truncation_side = tokenizer.truncation_side } = options;
  const strategy = truncation === true ? 'longest_first' : truncation || 'do_not_truncate';
  if (strategy === 'do_not_truncate') return undefined;
  if (!Object.hasOwn(strategies, strategy))
    throw new UsageError(
      `tokenizer: truncation is ${JSON.stringify(truncation)}, expected true, false, ${Object.keys(strategies).join(', ')} or do_not_truncate`,
    );
  const limit = options.max_length ?? tokenizer.model_max_length;
  if (limit === Number.POSITIVE_INFINITY) return undefined;
  const added = options.add_special_tokens === false ? 0 : tokenizer.postProcess.added[pair];
  if (!Number.isInteger(limit) || limit < added)
    throw new UsageError(`tokenizer: max_length is ${limit}, expected at least the ${added} special tokens of a row`);
  if (!Number.isInteger(stride) || stride < 0)
    throw new UsageError(`tokenizer: stride is ${stride}, expected a whole number from 0`);
  return {
    strategy: strategies[strategy as keyof typeof strategies],
    direction: truncation_side === 'left' ? 'Left' : 'Right',
    max_length: limit - added,
    stride,
  };
}

function encodeOne(
  tokenizer: Tokenizer,
  text: string,
  pair: string | undefined,
  truncation: Truncation | undefined,
  options: CallOptions,
): Encoding {
  const split = options.split_special_tokens ?? false;
  let a = tokenizer.encodeText(text, split);
  let b = pair === undefined ? undefined : tokenizer.encodeText(pair, split);
  if (truncation) [a, b] = truncatePair(a, b, truncation);
  return tokenizer.postProcess.run(b ? [a, b] : [a], options.add_special_tokens !== false);
}

function padded(tokenizer: Tokenizer, rows: Encoding[], options: CallOptions): Encoding[] {
  const { padding = false, max_length, pad_to_multiple_of, padding_side = tokenizer.padding_side } = options;
  if (padding === false || padding === 'do_not_pad') return rows;
  if (padding !== true && padding !== 'longest' && padding !== 'max_length')
    throw new UsageError(
      `tokenizer: padding is ${JSON.stringify(padding)}, expected true, false, longest, max_length or do_not_pad`,
    );
  const fixed = max_length ?? tokenizer.model_max_length;
  if (padding === 'max_length' && !Number.isFinite(fixed))
    throw new UsageError('tokenizer: padding is max_length, but there is no max_length and the model has no limit');
  return pad(rows, {
    strategy: padding === 'max_length' ? { Fixed: fixed } : 'BatchLongest',
    direction: padding_side === 'left' ? 'Left' : 'Right',
    pad_to_multiple_of,
    pad_id: tokenizer.pad_token_id,
    pad_type_id: tokenizer.file.padding?.pad_type_id ?? 0,
    pad_token: tokenizer.pad_token ?? '',
  });
}

function fieldsOf(
  tokenizer: Tokenizer,
  rows: readonly Encoding[],
  details: () => readonly Encoding[],
  samples: number[],
  options: CallOptions,
  many: boolean,
): BatchEncoding<IdTensor | number[] | number[][]> {
  const single = !many && !options.return_overflowing_tokens;
  const shape = (name: string, values: number[][]) =>
    options.return_tensor === false ? (single ? values[0]! : values) : idTensor(values, name);
  const fields: Record<string, unknown> = {};
  const add = (name: string, values: number[][]) => {
    fields[name] = shape(name, values);
  };
  add(
    'input_ids',
    rows.map(({ ids }) => ids),
  );
  if (options.return_attention_mask !== false)
    add(
      'attention_mask',
      rows.map(({ attention_mask }) => attention_mask),
    );
  if (options.return_token_type_ids ?? hasTypes(tokenizer))
    add(
      'token_type_ids',
      rows.map(({ type_ids }) => type_ids),
    );
  if (options.return_special_tokens_mask)
    add(
      'special_tokens_mask',
      rows.map(({ special_tokens_mask }) => special_tokens_mask),
    );
  if (options.return_offsets_mapping)
    fields.offset_mapping = single ? rows[0]!.offsets : rows.map(({ offsets }) => offsets);
  if (options.return_overflowing_tokens) fields.overflow_to_sample_mapping = samples;
  return new BatchEncoding(fields, details);
}

/** Models with two kinds of segments: those of BERT's kind. */
const hasTypes = ({ config }: Tokenizer) =>
  config.model_input_names?.includes('token_type_ids') ??
  /^(Bert|Albert|Electra|XLNet|MPNet)/.test(config.tokenizer_class ?? '');
