/** What a text became: ids with all that is known about each of them. The arrays have one entry per token. */

import { UsageError } from '../../util/errors.ts';
import type { Padding, Truncation } from '../schema.ts';

export interface Encoding {
  ids: number[];
  tokens: string[];
  /** Characters (code points) [start, end) of the text; [0, 0] for tokens that are not from the text. */
  offsets: [number, number][];
  /** Number of the word within the text; null for tokens that are not from the text. */
  words: (number | null)[];
  type_ids: number[];
  /** Which text a token is from: 0, 1, or null for tokens of the template. */
  sequences: (number | null)[];
  special_tokens_mask: number[];
  attention_mask: number[];
  /** What truncation cut off, in pieces that overlap by the stride. */
  overflowing: Encoding[];
}

export const emptyEncoding = (): Encoding => ({
  ids: [],
  tokens: [],
  offsets: [],
  words: [],
  type_ids: [],
  sequences: [],
  special_tokens_mask: [],
  attention_mask: [],
  overflowing: [],
});

/** Adds a token of the text at the end; `word` is the number of its word. */
export function append(encoding: Encoding, id: number, token: string, offsets: [number, number], word: number): void {
  encoding.ids.push(id);
  encoding.tokens.push(token);
  encoding.offsets.push(offsets);
  encoding.words.push(word);
  encoding.type_ids.push(0);
  encoding.sequences.push(0);
  encoding.special_tokens_mask.push(0);
  encoding.attention_mask.push(1);
}

/** Tokens that a template adds. */
export function specialEncoding(tokens: readonly string[], ids: readonly number[], type_id: number): Encoding {
  return {
    ids: [...ids],
    tokens: [...tokens],
    offsets: ids.map(() => [0, 0]),
    words: ids.map(() => null),
    type_ids: ids.map(() => type_id),
    sequences: ids.map(() => null),
    special_tokens_mask: ids.map(() => 1),
    attention_mask: ids.map(() => 1),
    overflowing: [],
  };
}

/** The arrays of tokens [start, end). */
function slice(encoding: Encoding, start: number, end: number): Encoding {
  return {
    ids: encoding.ids.slice(start, end),
    tokens: encoding.tokens.slice(start, end),
    offsets: encoding.offsets.slice(start, end),
    words: encoding.words.slice(start, end),
    type_ids: encoding.type_ids.slice(start, end),
    sequences: encoding.sequences.slice(start, end),
    special_tokens_mask: encoding.special_tokens_mask.slice(start, end),
    attention_mask: encoding.attention_mask.slice(start, end),
    overflowing: [],
  };
}

function concatenated(a: Encoding, b: Encoding): Encoding {
  return {
    ids: a.ids.concat(b.ids),
    tokens: a.tokens.concat(b.tokens),
    offsets: a.offsets.concat(b.offsets),
    words: a.words.concat(b.words),
    type_ids: a.type_ids.concat(b.type_ids),
    sequences: a.sequences.concat(b.sequences),
    special_tokens_mask: a.special_tokens_mask.concat(b.special_tokens_mask),
    attention_mask: a.attention_mask.concat(b.attention_mask),
    overflowing: [],
  };
}

/** One encoding behind the other; every overflow of one meets the other and its overflows. */
export function mergeEncodings(parts: readonly Encoding[]): Encoding {
  return parts.reduce((a, b) => {
    const overflowing: Encoding[] = [];
    for (const part of a.overflowing)
      overflowing.push(
        mergeEncodings([part, { ...b, overflowing: [] }]),
        ...b.overflowing.map((o) => concatenated(part, o)),
      );
    for (const part of b.overflowing) overflowing.push(concatenated(a, part));
    return { ...concatenated(a, b), overflowing };
  }, emptyEncoding());
}

/** Keeps `length` tokens; the rest becomes `overflowing`. @throws UsageError if the stride is not below the length */
function truncate(encoding: Encoding, length: number, { stride, direction }: Truncation): Encoding {
  const count = encoding.ids.length;
  if (length >= count) return encoding;
  if (length === 0) return { ...emptyEncoding(), overflowing: [encoding] };
  if (stride >= length)
    throw new UsageError(
      `truncation: stride is ${stride}, expected less than the ${length} tokens that are left of a text`,
    );
  const step = length - stride;
  const ranges: [number, number][] = [];
  if (direction === 'Right')
    for (let start = 0; start < count; start += step) {
      ranges.push([start, Math.min(start + length, count)]);
      if (start + length >= count) break;
    }
  else
    for (let end = count; end > 0; end -= step) {
      ranges.push([Math.max(end - length, 0), end]);
      if (end <= length) break;
    }
  const [first, ...rest] = ranges.map(([start, end]) => slice(encoding, start, end));
  return { ...first!, overflowing: rest };
}

/**
 * Shortens one text or a pair to `max_length` tokens together.
 * @throws UsageError for a pair's strategy without a pair, or a text too short to give that many tokens
 */
export function truncatePair(
  first: Encoding,
  second: Encoding | undefined,
  options: Truncation,
): [Encoding, Encoding | undefined] {
  const { max_length: limit, strategy } = options;
  const [n, m] = [first.ids.length, second?.ids.length ?? 0];
  const excess = n + m - limit;
  if (limit === 0) return [truncate(first, 0, options), second && truncate(second, 0, options)];
  if (excess <= 0) return [first, second];
  if (strategy === 'LongestFirst') {
    if (!second) return [truncate(first, limit, options), undefined];
    let [short, long] = [Math.min(n, m), Math.max(n, m)];
    long = short > limit ? short : Math.max(short, limit - short);
    if (short + long > limit) {
      short = Math.floor(limit / 2);
      long = short + (limit % 2);
    }
    const [keepFirst, keepSecond] = n > m ? [long, short] : [short, long];
    return [truncate(first, keepFirst, options), truncate(second, keepSecond, options)];
  }
  const target = strategy === 'OnlyFirst' ? first : second;
  if (!target) throw new UsageError('truncation: only_second without a second text, expected a pair');
  if (target.ids.length <= excess)
    throw new UsageError(
      `truncation: the text to shorten has ${target.ids.length} tokens, expected more than the ${excess} that must go`,
    );
  const short = truncate(target, target.ids.length - excess, options);
  return strategy === 'OnlyFirst' ? [short, second] : [first, short];
}

/** Pads all of a batch, overflows included, as the options say. */
export function pad(batch: readonly Encoding[], options: Padding): Encoding[] {
  const { strategy, pad_to_multiple_of: multiple } = options;
  let length =
    typeof strategy === 'object'
      ? strategy.Fixed
      : batch.reduce((longest, { ids }) => Math.max(longest, ids.length), 0);
  if (multiple && length % multiple > 0) length += multiple - (length % multiple);
  return batch.map((encoding) => padTo(encoding, length, options));
}

function padTo(encoding: Encoding, length: number, options: Padding): Encoding {
  const missing = length - encoding.ids.length;
  const overflowing = encoding.overflowing.map((part) => padTo(part, length, options));
  if (missing <= 0) return { ...encoding, overflowing };
  const tokens = Array.from({ length: missing }, () => options.pad_token);
  const ids = tokens.map(() => options.pad_id);
  const filler = { ...specialEncoding(tokens, ids, options.pad_type_id), attention_mask: ids.map(() => 0) };
  const joined = options.direction === 'Right' ? concatenated(encoding, filler) : concatenated(filler, encoding);
  return { ...joined, overflowing };
}
