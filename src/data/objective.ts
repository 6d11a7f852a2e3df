/** From options to a collator: the shapes of its batches, its checks, its place in the data. */
import { createHash } from 'node:crypto';
import { UsageError } from '../util/errors.ts';
import type { BatchShape, Collator, Json } from './collator.ts';
import { Corpus } from './corpus.ts';
import type { Split } from './manifest.ts';
import { SpanCorruptionCollator, type SpanCorruptionOptions, spanCorruptionLengths } from './span_corruption.ts';
import { mixtureTables, Ul2Collator, type Ul2Options } from './ul2.ts';

export type Objective = Ul2Options | SpanCorruptionOptions;

/** Position of a source after a batch: JSON, kept in a checkpoint. */
export interface SourceState {
  version: 1;
  /** Hash of the corpus, objective and seed that it belongs to. */
  key: string;
  /** Batches returned so far. */
  batches: number;
  collator: Json;
}

export interface CollatorOptions {
  /** Folder made by `prepare`. */
  folder: string;
  /** Default 'train'. */
  split?: Split;
  objective: Objective;
  /** Rows of a batch. */
  rows: number;
  /** Integer from 0. */
  seed: number;
  /** The model's vocabulary size: every id in a batch is below it. */
  vocab_size: number;
  /** When given, shards of another tokenizer are refused. */
  tokenizer_hash?: string;
}

/** Longer documents are shuffled in parts of at most this many tokens. */
const UNIT_TOKENS = 4096;

/** Shape of an objective's batches. @throws UsageError for shapes, sentinels or ids that cannot work */
export function batchShape(objective: Objective, rows: number, vocabSize: number): BatchShape {
  const prefixes = objective.name === 'ul2' ? objective.denoisers.flatMap(({ prefix = [] }) => prefix) : [];
  const { eos_token_id, decoder_start_token_id, pad_token_id, sentinels } = objective;
  const ids = { eos_token_id, decoder_start_token_id, pad_token_id };
  for (const [name, id] of [
    ...Object.entries(ids),
    ...sentinels.map((id, i) => [`sentinels[${i}]`, id] as const),
    ...prefixes.map((id) => ['prefix', id] as const),
  ])
    if (!Number.isInteger(id) || id < 0 || id >= vocabSize)
      throw new UsageError(`${name}: is ${id}, expected an id below vocab_size ${vocabSize}`);
  if (new Set(sentinels).size !== sentinels.length) throw new UsageError('sentinels: an id appears twice');
  if (!Number.isInteger(rows) || rows < 1) throw new UsageError(`rows: is ${rows}, expected an integer from 1`);
  if (objective.name === 'ul2') {
    mixtureTables(objective);
    const { max_length, max_labels_length } = objective;
    return { rows, sourceLength: max_length, targetLength: max_labels_length, segmented: true };
  }
  const { raw, noise, spans, labels } = spanCorruptionLengths(objective);
  return { rows, sourceLength: raw - noise + spans + 1, targetLength: labels, segmented: false };
}

/** A collator, the key that its states carry, and the tokens of its corpus. */
export interface OpenCollator {
  collator: Collator;
  key: string;
  tokens: number;
}

/**
 * Opens the corpus and its collator, from the start or from a state.
 * @throws UsageError for bad options or a state of other data, FormatError for a bad shard
 */
export function openCollator(options: CollatorOptions, state?: SourceState): OpenCollator {
  const { folder, split = 'train', objective, rows, seed, vocab_size, tokenizer_hash } = options;
  batchShape(objective, rows, vocab_size);
  if (!Number.isSafeInteger(seed) || seed < 0) throw new UsageError(`seed: is ${seed}, expected an integer from 0`);
  const corpus = new Corpus({
    folder,
    split,
    unitTokens: UNIT_TOKENS,
    vocabSize: vocab_size,
    tokenizerHash: tokenizer_hash,
  });
  const key = createHash('sha256')
    .update(JSON.stringify([corpus.fingerprint, objective, seed]))
    .digest('hex');
  if (state && (state.version !== 1 || state.key !== key)) {
    corpus.close();
    throw new UsageError(
      `${folder}: the data position to go on from belongs to other shards, another objective or another seed; restore them or start a new run`,
    );
  }
  const from = state?.collator ?? null;
  const collator =
    objective.name === 'ul2'
      ? new Ul2Collator(corpus, objective, rows, seed, from)
      : new SpanCorruptionCollator(corpus, objective, rows, seed, from);
  return { collator, key, tokens: corpus.tokens };
}
