/**
 * Plain T5 span corruption: documents end to end, each closed by EOS, cut into pieces of the one raw length whose
 * corrupted inputs fill a row exactly (568 raw tokens for 512 + 114 at density 0.15 and mean span 3). No padding, no
 * segments.
 *
 * Source: T5; lengths and masks as nanoT5. T5 differs: nanoT5 drops the end of every thousand documents; here the
 * stream goes on, also from one epoch into the next.
 */
import type { Batch } from '../util/batch.ts';
import { UsageError } from '../util/errors.ts';
import type { BatchShape, Collator, DataStatistics, Json } from './collator.ts';
import { type Corpus, type StreamPosition, type Unit, UnitStream } from './corpus.ts';
import { type Denoiser, fullLength, noiseOf } from './denoiser.ts';
import { Random, STREAMS } from './random.ts';
import { SpanScratch, writePiece } from './spans.ts';
import { checkLength, type SpecialIds, shiftRight } from './ul2.ts';

export interface SpanCorruptionOptions extends SpecialIds {
  name: 'span_corruption';
  /** Encoder positions of a row. */
  max_length: number;
  /** Share of noise. Default 0.15. */
  noise_density?: number;
  /** Mean length of a noise span. Default 3. */
  mean_span?: number;
}

/** Lengths of every row: raw tokens, noise among them, spans, and labels (EOS included). */
export interface SpanCorruptionLengths {
  raw: number;
  noise: number;
  spans: number;
  labels: number;
}

/** The lengths that fill max_length inputs. @throws UsageError for impossible shapes or too few sentinels */
export function spanCorruptionLengths(options: Omit<SpanCorruptionOptions, 'name'>): SpanCorruptionLengths {
  const { max_length, noise_density = 0.15, mean_span = 3, sentinels } = options;
  checkLength('max_length', max_length);
  if (!(noise_density > 0 && noise_density < 1))
    throw new UsageError(`noise_density: is ${noise_density}, expected between 0 and 1`);
  if (!(mean_span >= 1)) throw new UsageError(`mean_span: is ${mean_span}, expected at least 1`);
  const denoiser: Denoiser = { mean_span, noise_density, proportion: 1 };
  const raw = fullLength(denoiser, { inputs: max_length, labels: Infinity });
  if (raw < 2)
    throw new UsageError(`max_length: is ${max_length}, too short for a corrupted span; expected at least 4`);
  const { noise, spans } = noiseOf(denoiser, raw);
  if (spans > sentinels.length)
    throw new UsageError(
      `span_corruption: needs ${spans} sentinels at max_length ${max_length}, the tokenizer has ${sentinels.length}; lower max_length or train a tokenizer with more sentinels`,
    );
  return { raw, noise, spans, labels: noise + spans + 1 };
}

interface SpanCorruptionState {
  stream: StreamPosition;
  /** The unit being read, and how many of its tokens (EOS counted) have been used. */
  unit: Unit | null;
  used: number;
  rows: number;
}

export class SpanCorruptionCollator implements Collator {
  readonly shape: BatchShape;
  private readonly options: SpanCorruptionOptions;
  private readonly lengths: SpanCorruptionLengths;
  private readonly corpus: Corpus;
  private readonly seed: number;
  private readonly stream: UnitStream;
  private readonly scratch: SpanScratch;
  private readonly sentinels: Int32Array;
  private readonly random = new Random();
  private unit: Unit | null;
  private used: number;
  private rows: number;

  constructor(corpus: Corpus, options: SpanCorruptionOptions, rows: number, seed: number, from: Json) {
    this.lengths = spanCorruptionLengths(options);
    this.options = options;
    this.corpus = corpus;
    this.seed = seed;
    const { raw, noise, spans, labels } = this.lengths;
    this.shape = { rows, sourceLength: raw - noise + spans + 1, targetLength: labels, segmented: false };
    this.scratch = new SpanScratch(raw);
    this.sentinels = Int32Array.from(options.sentinels);
    const state = from as unknown as SpanCorruptionState | null;
    this.stream = new UnitStream(corpus, seed, state?.stream);
    this.unit = state?.unit ?? null;
    this.used = state?.used ?? 0;
    this.rows = state?.rows ?? 0;
  }

  fill(batch: Batch): void {
    const { rows, sourceLength, targetLength, input_ids, labels, decoder_input_ids } = batch;
    const { eos_token_id, decoder_start_token_id } = this.options;
    const { raw, noise, spans } = this.lengths;
    for (let row = 0; row < rows; row++) {
      this.readPiece(raw);
      this.random.start(this.seed, STREAMS.mask, this.rows++);
      this.scratch.draw(this.random, raw, noise, spans);
      const labelAt = row * targetLength;
      writePiece(this.scratch, spans, [], {
        inputs: input_ids,
        inputAt: row * sourceLength,
        labels,
        labelAt,
        sentinels: this.sentinels,
        firstSentinel: 0,
        inputEnd: eos_token_id,
        labelEnd: eos_token_id,
      });
      shiftRight(labels, decoder_input_ids, labelAt, labelAt + targetLength, decoder_start_token_id);
    }
    batch.tokens = rows * targetLength;
  }

  state(): Json {
    const state: SpanCorruptionState = {
      stream: this.stream.position,
      unit: this.unit,
      used: this.used,
      rows: this.rows,
    };
    return state as unknown as Json;
  }

  statistics(): DataStatistics {
    const { rows } = this;
    const { sourceLength, targetLength } = this.shape;
    return {
      epoch: this.stream.position.epoch,
      rows,
      input_fill: rows === 0 ? 0 : 1,
      label_fill: rows === 0 ? 0 : 1,
      dropped_documents: 0,
      dropped_tokens: 0,
      denoisers: [
        {
          name: 'span_corruption',
          examples: rows,
          raw_tokens: rows * this.lengths.raw,
          input_tokens: rows * sourceLength,
          label_tokens: rows * targetLength,
        },
      ],
    };
  }

  close(): void {
    this.corpus.close();
  }

  /** Puts the next `raw` tokens of the stream into the work space. */
  private readPiece(raw: number): void {
    const { tokens } = this.scratch;
    for (let at = 0; at < raw; ) {
      this.unit ??= this.stream.next();
      const { shard, start, end, last } = this.unit;
      const length = end - start;
      const take = Math.min(raw - at, length - this.used);
      if (take > 0) {
        this.corpus.shards[shard]!.copy(start + this.used, start + this.used + take, tokens, at);
        at += take;
        this.used += take;
      }
      if (this.used < length) return;
      if (last) {
        if (at === raw) return;
        tokens[at++] = this.options.eos_token_id;
      }
      this.unit = null;
      this.used = 0;
    }
  }
}
