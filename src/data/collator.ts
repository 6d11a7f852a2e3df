/** What an objective is to the batch source: an endless, resumable sequence of batches of one shape. */
import type { Batch } from '../util/batch.ts';

/** A batch without data. */
export interface BatchShape {
  rows: number;
  sourceLength: number;
  targetLength: number;
  /** Whether batches carry segments and decoder_segments. */
  segmented: boolean;
}

/** One denoiser's part of what was produced. */
export interface DenoiserStatistics {
  name: string;
  examples: number;
  raw_tokens: number;
  input_tokens: number;
  label_tokens: number;
}

/** What has been produced since the run began. */
export interface DataStatistics {
  /** Epoch that the next document belongs to, from zero. */
  epoch: number;
  rows: number;
  /** Share of the encoder positions that hold a token. */
  input_fill: number;
  /** Share of the decoder positions that have a label. */
  label_fill: number;
  /** Documents too short to be corrupted, left out. */
  dropped_documents: number;
  dropped_tokens: number;
  denoisers: DenoiserStatistics[];
}

/** JSON values: what a state may hold. */
export type Json = null | boolean | number | string | Json[] | { [key: string]: Json };

export interface Collator {
  readonly shape: BatchShape;
  /** Fills the next batch: every element of its arrays and `tokens`. */
  fill(batch: Batch): void;
  /** Position after the last filled batch; shares memory with the collator, so it must be serialised before `fill`. */
  state(): Json;
  statistics(): DataStatistics;
  close(): void;
}

/** Int32 elements of a batch. */
export function batchElements({ rows, sourceLength, targetLength, segmented }: BatchShape): number {
  return rows * (sourceLength * (segmented ? 2 : 1) + targetLength * (segmented ? 3 : 2));
}

/** The batch whose arrays follow one another in `words`. */
export function batchOver(shape: BatchShape, words: Int32Array): Batch {
  const { rows, sourceLength, targetLength, segmented } = shape;
  let at = 0;
  const take = (columns: number): Int32Array => words.subarray(at, (at += rows * columns));
  const batch: Batch = {
    rows,
    sourceLength,
    targetLength,
    input_ids: take(sourceLength),
    decoder_input_ids: take(targetLength),
    labels: take(targetLength),
    tokens: 0,
  };
  if (segmented) Object.assign(batch, { segments: take(sourceLength), decoder_segments: take(targetLength) });
  return batch;
}
