/** What calling a tokenizer gives: rows of ids, in the shapes that transformers.js returns. */
import { UsageError } from '../util/errors.ts';
import type { Encoding } from './pipeline/encoding.ts';

/** Whole numbers, row-major, as transformers.js's int64 tensors are. */
export interface IdTensor {
  readonly type: 'int64';
  readonly dims: readonly [number, number];
  readonly data: BigInt64Array;
  tolist(): bigint[][];
}

export function idTensor(rows: readonly (readonly number[])[], what: string): IdTensor {
  const width = rows[0]?.length ?? 0;
  const ragged = rows.find((row) => row.length !== width);
  if (ragged)
    throw new UsageError(
      `tokenizer: ${what} has rows of ${width} and ${ragged.length} tokens, expected one length for a tensor: use padding: true and truncation: true, or return_tensor: false`,
    );
  const data = new BigInt64Array(rows.length * width);
  rows.forEach((row, i) => {
    row.forEach((id, j) => {
      data[i * width + j] = BigInt(id);
    });
  });
  const tolist = () => Array.from(rows, (_, i) => [...data.subarray(i * width, (i + 1) * width)]);
  return { type: 'int64', dims: [rows.length, width], data, tolist };
}

/** One row per text and overflow. The fields are what a model takes; the methods say where tokens are from. */
export class BatchEncoding<Values> {
  declare readonly input_ids: Values;
  declare readonly attention_mask: Values;
  declare readonly token_type_ids?: Values;
  declare readonly special_tokens_mask?: Values;
  /** Characters (code points, as Hugging Face counts) [start, end) of each token. */
  declare readonly offset_mapping?: [number, number][][] | [number, number][];
  /** Which text each row is from. */
  declare readonly overflow_to_sample_mapping?: number[];
  readonly #rows: () => readonly Encoding[];

  constructor(fields: Record<string, unknown>, rows: () => readonly Encoding[]) {
    Object.assign(this, fields);
    this.#rows = rows;
  }

  /** All that is known of a row. @throws UsageError if there is none */
  encoding(row = 0): Encoding {
    const found = this.#rows()[row];
    if (!found) throw new UsageError(`tokenizer: no row ${row}, expected 0 to ${this.#rows().length - 1}`);
    return found;
  }

  /** Number of the word that each token is from; null for special tokens and padding. */
  word_ids(row = 0): (number | null)[] {
    return this.encoding(row).words;
  }

  /** 0 for tokens of the text, 1 for those of the pair, null for special tokens and padding. */
  sequence_ids(row = 0): (number | null)[] {
    return this.encoding(row).sequences;
  }

  tokens(row = 0): string[] {
    return this.encoding(row).tokens;
  }
}
