/** What users pass in: nested arrays or tensors of whole numbers, checked before anything runs. */
import { type Batch, IGNORED, PADDING } from '../util/batch.ts';
import { UsageError } from '../util/errors.ts';
import type { T5Config } from './config.ts';

/** A matrix as nested arrays or as a tensor of two dimensions (ours or transformers.js's). */
export type MatrixInput =
  | readonly (readonly number[])[]
  | { readonly dims: readonly number[]; readonly data: ArrayLike<number | bigint> };

/** Whole numbers of 32 bits [rows, columns] on the host. */
export interface Matrix {
  rows: number;
  columns: number;
  values: Int32Array;
}

/** Smallest and largest value allowed, and one that is allowed besides. */
interface Range {
  from: number;
  to: number;
  or?: number;
}

/** Reads a matrix. @throws UsageError naming the row, column and value that is wrong */
export function matrix(input: MatrixInput, name: string, range: Range): Matrix {
  const { rows, columns, at } = open(input, name);
  const values = new Int32Array(rows * columns);
  for (let i = 0; i < values.length; i++) {
    const value = at(i);
    if (!(Number.isInteger(value) && ((value >= range.from && value <= range.to) || value === range.or)))
      throw new UsageError(
        `${name}: row ${Math.floor(i / columns)}, column ${i % columns} is ${value}, ` +
          `expected a whole number from ${range.from} to ${range.to}${range.or === undefined ? '' : ` or ${range.or}`}`,
      );
    values[i] = value;
  }
  return { rows, columns, values };
}

function open(input: MatrixInput, name: string): { rows: number; columns: number; at: (i: number) => number } {
  if (Array.isArray(input)) {
    const nested = input as readonly (readonly number[])[];
    const columns = nested[0]?.length ?? 0;
    for (const [i, row] of nested.entries()) {
      if (!Array.isArray(row))
        throw new UsageError(`${name}: row ${i} is ${String(row)}, expected an array (one inside the other: [[…]])`);
      if (row.length !== columns)
        throw new UsageError(
          `${name}: row ${i} has ${row.length} values, row 0 has ${columns}; pad them to one length`,
        );
    }
    if (columns === 0) throw new UsageError(`${name}: is empty, expected at least one row with one value`);
    return { rows: nested.length, columns, at: (i) => nested[Math.floor(i / columns)]![i % columns]! };
  }
  const { dims, data } = (input ?? {}) as { dims?: readonly number[]; data?: ArrayLike<number | bigint> };
  if (!dims || !data) throw new UsageError(`${name}: is ${input}, expected nested arrays or a tensor`);
  const [rows, columns] = dims as [number, number];
  const areSizes = dims.length === 2 && dims.every((size) => Number.isInteger(size) && size > 0);
  if (!areSizes || rows * columns !== data.length)
    throw new UsageError(`${name}: dims [${dims}] with ${data.length} values, expected [rows, length], both positive`);
  return { rows, columns, at: (i) => Number(data[i]) };
}

const token = (c: T5Config): Range => ({ from: 0, to: c.vocab_size - 1 });

/** Inputs of an encoder, as in transformers. */
export interface EncoderInputs {
  /** Source tokens [B,S], padded to one length. */
  input_ids: MatrixInput;
  /** 1 for tokens, 0 for padding, [B,S]; all 1 when left out. */
  attention_mask?: MatrixInput | undefined;
}

/** Inputs of encoder and decoder, as in transformers. */
export interface Seq2SeqInputs extends EncoderInputs {
  /** Wanted tokens [B,T], -100 where there is no loss. */
  labels?: MatrixInput | undefined;
  /** Decoder tokens [B,T], the start token first; the labels shifted right when left out. */
  decoder_input_ids?: MatrixInput | undefined;
  decoder_attention_mask?: MatrixInput | undefined;
}

/** Source tokens with padding as segments; `segments` is absent when there is none. */
export interface Source extends Matrix {
  segments: Int32Array | undefined;
}

/** A source with padding behind its rows, `width` columns in all. */
export function widened(source: Source, width: number): Source {
  const { rows, columns, values, segments } = source;
  if (width === columns) return source;
  const wide = (from: (i: number) => number, filler: number) =>
    Int32Array.from({ length: rows * width }, (_, i) =>
      i % width < columns ? from(Math.floor(i / width) * columns + (i % width)) : filler,
    );
  return {
    rows,
    columns: width,
    values: wide((i) => values[i]!, 0),
    segments: wide((i) => segments?.[i] ?? 0, PADDING),
  };
}

/** Sources and room for answers are padded to a multiple of this many columns where launches are recorded for a shape. */
const COLUMNS = 64;

/** A number of columns brought up to a multiple of COLUMNS. */
export const roundedUp = (columns: number): number => Math.ceil(columns / COLUMNS) * COLUMNS;

/** The source with padding up to a whole number of COLUMNS. */
export const bucketed = (source: Source): Source => widened(source, roundedUp(source.columns));

/** @throws UsageError */
export function sourceOf(inputs: EncoderInputs, c: T5Config): Source {
  const ids = matrix(inputs.input_ids, 'input_ids', token(c));
  return { ...ids, segments: segmentsOf(inputs.attention_mask, 'attention_mask', ids) };
}

function segmentsOf(input: MatrixInput | undefined, name: string, like: Matrix): Int32Array | undefined {
  if (input === undefined || input === null) return undefined;
  const mask = matrix(input, name, { from: 0, to: 1 });
  sameShape(mask, name, like, 'the ids');
  return mask.values.every((m) => m === 1) ? undefined : mask.values.map((m) => (m ? 0 : PADDING));
}

/** @throws UsageError if two matrices differ in shape */
export function sameShape(a: Matrix, name: string, b: Matrix, other: string): void {
  if (a.rows !== b.rows || a.columns !== b.columns)
    throw new UsageError(`${name}: is [${a.rows}, ${a.columns}], expected [${b.rows}, ${b.columns}] like ${other}`);
}

/** A batch as `batchOf` makes it. */
export interface Seq2SeqBatch extends Batch {
  /** False when segments only mark padding, so that padded queries still see real keys, as in Hugging Face. */
  packed: boolean;
}

/** A batch from what users pass in. @throws UsageError */
export function batchOf(inputs: Seq2SeqInputs, c: T5Config): Seq2SeqBatch {
  const source = sourceOf(inputs, c);
  const labels = inputs.labels && labelsOf(inputs.labels, c);
  if (!labels && !inputs.decoder_input_ids)
    throw new UsageError('forward: neither labels nor decoder_input_ids given, expected one of them');
  const decoderIds = inputs.decoder_input_ids
    ? matrix(inputs.decoder_input_ids, 'decoder_input_ids', token(c))
    : { ...labels!, values: shiftRight(labels!, c) };
  if (labels) sameShape(labels, 'labels', decoderIds, 'decoder_input_ids');
  if (decoderIds.rows !== source.rows)
    throw new UsageError(
      `${labels ? 'labels' : 'decoder_input_ids'}: ${decoderIds.rows} rows, input_ids has ${source.rows}, expected as many`,
    );
  const decoderSegments = segmentsOf(inputs.decoder_attention_mask, 'decoder_attention_mask', decoderIds);
  const wanted = labels?.values ?? new Int32Array(decoderIds.values.length).fill(IGNORED);
  return {
    rows: source.rows,
    sourceLength: source.columns,
    targetLength: decoderIds.columns,
    input_ids: source.values,
    decoder_input_ids: decoderIds.values,
    labels: wanted,
    ...(source.segments && { segments: source.segments }),
    ...(decoderSegments && { decoder_segments: decoderSegments }),
    tokens: wanted.reduce((n, label) => n + (label === IGNORED ? 0 : 1), 0),
    packed: false,
  };
}

/** Labels of `classes` kinds. */
export const labelRange = (classes: number): Range => ({ from: 0, to: classes - 1, or: IGNORED });

const labelsOf = (input: MatrixInput, c: T5Config) => matrix(input, 'labels', labelRange(c.vocab_size));

/** The start token, then the labels without the last; ignored ones become padding. */
function shiftRight({ rows, columns, values }: Matrix, c: T5Config): Int32Array {
  const shifted = new Int32Array(rows * columns);
  for (let i = 0; i < shifted.length; i++) {
    const before = i % columns === 0 ? c.decoder_start_token_id : values[i - 1]!;
    shifted[i] = before === IGNORED ? c.pad_token_id : before;
  }
  return shifted;
}
