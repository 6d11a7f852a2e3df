/**
 * UL2: documents corrupted by a mixture of denoisers and packed into rows of fixed shape.
 *
 *   best_fit     pieces of a row have segments of their own, each with its EOS and its own decoder start
 *   concatenate  FAT5's plain rows: pieces see each other, sentinels are numbered on through the row, one EOS at its end
 *   none         one piece a row
 *
 * T5 differs: FAT5 drops what does not fit a batch, crops long documents once, and lets sentinel ids run into ordinary
 * ones; here documents go on in later rows, and too few sentinels are an error before anything is made.
 */
import { type Batch, IGNORED, PADDING } from '../util/batch.ts';
import { UsageError } from '../util/errors.ts';
import type { BatchShape, Collator, DataStatistics, DenoiserStatistics, Json } from './collator.ts';
import { type Corpus, type StreamPosition, UnitStream } from './corpus.ts';
import type { Denoiser } from './denoiser.ts';
import { type PackingState, type Piece, type PieceTable, pieceTable, type Remnant, RowComposer } from './packing.ts';
import { Random, STREAMS } from './random.ts';
import { type PieceTarget, SpanScratch, writePiece } from './spans.ts';

export interface SpecialIds {
  eos_token_id: number;
  decoder_start_token_id: number;
  pad_token_id: number;
  /** The sentinels, the first one first. */
  sentinels: number[];
}

export interface Ul2Options extends SpecialIds {
  name: 'ul2';
  /** Encoder positions of a row. */
  max_length: number;
  /** Decoder positions of a row. */
  max_labels_length: number;
  denoisers: Denoiser[];
  /** Default 'best_fit'. */
  packing?: 'best_fit' | 'concatenate' | 'none';
  /** Documents of at most this many tokens are left out. Default 10. */
  min_document_length?: number;
}

/** The name in messages and statistics. */
function denoiserName({ name, mean_span, noise_density }: Denoiser): string {
  return name ?? (noise_density === 0 ? `S(${mean_span})` : `(${mean_span},${noise_density})`);
}

function checkDenoiser(denoiser: Denoiser): void {
  const { mean_span, noise_density, proportion, max_spans = 1 } = denoiser;
  const who = `denoiser ${denoiserName(denoiser)}`;
  if (!(mean_span >= 1)) throw new UsageError(`${who}: mean_span is ${mean_span}, expected at least 1`);
  if (!(noise_density >= 0 && noise_density < 1))
    throw new UsageError(`${who}: noise_density is ${noise_density}, expected in [0, 1)`);
  if (!(proportion >= 0 && proportion < Infinity))
    throw new UsageError(`${who}: proportion is ${proportion}, expected at least 0`);
  if (!Number.isInteger(max_spans) || max_spans < 1)
    throw new UsageError(`${who}: max_spans is ${max_spans}, expected an integer from 1`);
}

/** Positive integers of at most a million. @throws UsageError */
export function checkLength(name: string, value: number): void {
  if (!Number.isInteger(value) || value < 1 || value > 1e6)
    throw new UsageError(`${name}: is ${value}, expected an integer from 1 to 1000000`);
}

/** The tables of a mixture. @throws UsageError if a row is too short or the sentinels are too few for a denoiser */
export function mixtureTables(options: Ul2Options): PieceTable[] {
  const { max_length, max_labels_length, denoisers, sentinels, packing = 'best_fit' } = options;
  checkLength('max_length', max_length);
  checkLength('max_labels_length', max_labels_length);
  if (denoisers.length === 0) throw new UsageError('denoisers: none given, expected at least one');
  if (!denoisers.some(({ proportion }) => proportion > 0))
    throw new UsageError('denoisers: every proportion is 0, expected one above 0');
  const room = roomOf(options);
  return denoisers.map((denoiser) => {
    checkDenoiser(denoiser);
    const who = `denoiser ${denoiserName(denoiser)}`;
    const table = pieceTable(denoiser, room, packing === 'concatenate' ? 0 : 1);
    const least = LEAST_PIECE;
    if (table.full < least) {
      const side =
        (denoiser.prefix?.length ?? 0) + least > max_length ? 'max_length' : 'max_length or max_labels_length';
      throw new UsageError(
        `${who}: a row of max_length ${max_length} and max_labels_length ${max_labels_length} holds ${table.full} raw tokens, expected at least ${least}; raise ${side}`,
      );
    }
    const spans = table.spans.reduce((a, b) => Math.max(a, b), 0);
    if (spans > sentinels.length)
      throw new UsageError(
        `${who}: needs ${spans} sentinels at max_length ${max_length}, the tokenizer has ${sentinels.length}; lower max_length, set max_spans, or train a tokenizer with more sentinels`,
      );
    return table;
  });
}

/** A denoiser must be able to take a piece of this many raw tokens. */
const LEAST_PIECE = 8;

/** What the pieces of a row share: with one EOS for the row's labels, that one is set aside. */
function roomOf({ max_length, max_labels_length, packing }: Ul2Options): { inputs: number; labels: number } {
  return { inputs: max_length, labels: max_labels_length - (packing === 'concatenate' ? 1 : 0) };
}

interface Ul2State {
  stream: StreamPosition;
  packing: PackingState;
  /** Denoisers drawn and pieces made: the counters of the random streams. */
  drawn: number;
  pieces: number;
  rows: number;
  dropped_documents: number;
  dropped_tokens: number;
  denoisers: DenoiserStatistics[];
}

export class Ul2Collator implements Collator {
  readonly shape: BatchShape;
  private readonly options: Ul2Options;
  private readonly packing: 'best_fit' | 'concatenate' | 'none';
  private readonly corpus: Corpus;
  private readonly seed: number;
  private readonly tables: PieceTable[];
  private readonly cumulative: number[];
  private readonly stream: UnitStream;
  private readonly composer: RowComposer;
  private readonly counts: Omit<Ul2State, 'stream' | 'packing'>;
  private readonly scratch: SpanScratch;
  private readonly sentinels: Int32Array;
  private readonly random = new Random();

  constructor(corpus: Corpus, options: Ul2Options, rows: number, seed: number, from: Json) {
    const { max_length, max_labels_length, denoisers } = options;
    this.tables = mixtureTables(options);
    this.options = options;
    this.packing = options.packing ?? 'best_fit';
    this.corpus = corpus;
    this.seed = seed;
    this.shape = { rows, sourceLength: max_length, targetLength: max_labels_length, segmented: true };
    this.scratch = new SpanScratch(Math.max(...this.tables.map(({ full }) => full)));
    this.sentinels = Int32Array.from(options.sentinels);
    const total = denoisers.reduce((sum, { proportion }) => sum + proportion, 0);
    let sum = 0;
    this.cumulative = denoisers.map(({ proportion }) => (sum += proportion / total));

    const state = from as unknown as Ul2State | null;
    this.stream = new UnitStream(corpus, seed, state?.stream);
    this.counts = {
      drawn: state?.drawn ?? 0,
      pieces: state?.pieces ?? 0,
      rows: state?.rows ?? 0,
      dropped_documents: state?.dropped_documents ?? 0,
      dropped_tokens: state?.dropped_tokens ?? 0,
      denoisers: denoisers.map((denoiser, i) => ({
        name: denoiserName(denoiser),
        examples: 0,
        raw_tokens: 0,
        input_tokens: 0,
        label_tokens: 0,
        ...state?.denoisers[i],
      })),
    };
    const limits = {
      ...roomOf(options),
      sentinels: this.packing === 'concatenate' ? options.sentinels.length : Number.MAX_SAFE_INTEGER,
    };
    this.composer = new RowComposer(
      this.tables,
      limits,
      { document: () => this.document(), denoiser: () => this.denoiser() },
      state?.packing,
    );
  }

  fill(batch: Batch): void {
    const { pad_token_id } = this.options;
    batch.input_ids.fill(pad_token_id);
    batch.decoder_input_ids.fill(pad_token_id);
    batch.labels.fill(IGNORED);
    batch.segments!.fill(PADDING);
    batch.decoder_segments!.fill(PADDING);
    batch.tokens = 0;
    for (let row = 0; row < batch.rows; row++) {
      const pieces = this.packing === 'none' ? this.composer.single() : this.composer.packed();
      batch.tokens += this.writeRow(batch, row, pieces);
      this.counts.rows++;
    }
  }

  state(): Json {
    const state: Ul2State = { stream: this.stream.position, packing: this.composer.state(), ...this.counts };
    return state as unknown as Json;
  }

  statistics(): DataStatistics {
    const { rows, denoisers, dropped_documents, dropped_tokens } = this.counts;
    const { sourceLength, targetLength } = this.shape;
    const total = (key: 'input_tokens' | 'label_tokens') => denoisers.reduce((sum, d) => sum + d[key], 0);
    return {
      epoch: this.stream.position.epoch,
      rows,
      input_fill: rows === 0 ? 0 : total('input_tokens') / (rows * sourceLength),
      label_fill: rows === 0 ? 0 : total('label_tokens') / (rows * targetLength),
      dropped_documents,
      dropped_tokens,
      denoisers: denoisers.map((d) => ({ ...d })),
    };
  }

  close(): void {
    this.corpus.close();
  }

  /** The next unit that is long enough. @throws UsageError if a whole epoch has none */
  private document(): Remnant {
    const least = Math.max(1, this.options.min_document_length ?? 10);
    for (let tried = 0; tried <= this.corpus.units; tried++) {
      const { shard, start, end } = this.stream.next();
      const length = end - start;
      if (length > least) return { shard, start, length };
      this.counts.dropped_documents++;
      this.counts.dropped_tokens += length;
    }
    throw new UsageError(`min_document_length: is ${least}, no document has more tokens; lower it`);
  }

  private denoiser(): number {
    const draw = this.random.start(this.seed, STREAMS.denoiser, this.counts.drawn++).next() / 2 ** 32;
    const at = this.cumulative.findIndex((limit) => draw < limit);
    return at >= 0 ? at : this.cumulative.length - 1;
  }

  /** Writes a row's pieces and returns how many labels it has. */
  private writeRow(batch: Batch, row: number, pieces: Piece[]): number {
    const { sourceLength, targetLength, input_ids, labels, decoder_input_ids } = batch;
    const { eos_token_id, decoder_start_token_id } = this.options;
    const alone = this.packing === 'concatenate';
    const firstInput = row * sourceLength;
    const firstLabel = row * targetLength;
    const target: PieceTarget = {
      inputs: input_ids,
      inputAt: firstInput,
      labels,
      labelAt: firstLabel,
      sentinels: this.sentinels,
      firstSentinel: 0,
      inputEnd: eos_token_id,
      labelEnd: alone ? -1 : eos_token_id,
    };
    let segment = 0;
    for (const { shard, start, length, denoiser } of pieces) {
      const { inputAt, labelAt } = target;
      const table = this.tables[denoiser]!;
      const spans = table.spans[length]!;
      this.corpus.shards[shard]!.copy(start, start + length, this.scratch.tokens, 0);
      this.random.start(this.seed, STREAMS.mask, this.counts.pieces++);
      this.scratch.draw(this.random, length, table.noise[length]!, spans);
      writePiece(this.scratch, spans, this.options.denoisers[denoiser]!.prefix ?? [], target);
      batch.segments!.fill(segment, inputAt, target.inputAt);
      batch.decoder_segments!.fill(segment, labelAt, target.labelAt);
      shiftRight(labels, decoder_input_ids, labelAt, target.labelAt, decoder_start_token_id);
      if (alone) target.firstSentinel += spans;
      else segment++;
      const counts = this.counts.denoisers[denoiser]!;
      counts.examples++;
      counts.raw_tokens += length;
      counts.input_tokens += target.inputAt - inputAt;
      counts.label_tokens += target.labelAt - labelAt;
    }
    if (alone) {
      labels[target.labelAt++] = eos_token_id;
      batch.decoder_segments!.fill(0, firstLabel, target.labelAt);
      shiftRight(labels, decoder_input_ids, firstLabel, target.labelAt, decoder_start_token_id);
    }
    return target.labelAt - firstLabel;
  }
}

/** Decoder inputs of labels [from, to): the start token, then the labels but the last. */
export function shiftRight(labels: Int32Array, inputs: Int32Array, from: number, to: number, start: number): void {
  if (to === from) return;
  inputs[from] = start;
  for (let i = from + 1; i < to; i++) inputs[i] = labels[i - 1]!;
}
