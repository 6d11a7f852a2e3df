/**
 * T5 span corruption of one piece. The raw tokens are cut into runs kept, noise, kept, noise, …; noise and kept tokens
 * are each split into the same number of non-empty parts, every split equally likely.
 *
 *   inputs  prefix  kept₀ s₀ kept₁ s₁ … EOS          labels  s₀ noise₀ s₁ noise₁ … EOS
 *
 * Source: T5 (Raffel et al., 2020), random_spans_noise_mask. The first token is therefore never noise, the last always.
 */
import type { Random } from './random.ts';

/** Splits 1..total into `parts` non-empty runs, all compositions equally likely, into out[at], out[at+2], … */
function composition(
  random: Random,
  total: number,
  parts: number,
  out: Int32Array,
  at: number,
  marks: Uint8Array,
): void {
  // A composition is a choice of parts-1 cuts among total-1 places; the rarer kind of place is drawn (Floyd, 1987).
  const places = total - 1;
  const cuts = parts - 1;
  const drawCuts = 2 * cuts <= places;
  const draws = drawCuts ? cuts : places - cuts;
  marks.fill(0, 0, places);
  for (let last = places - draws; last < places; last++) {
    const place = random.below(last + 1);
    marks[marks[place] ? last : place] = 1;
  }
  const cut = drawCuts ? 1 : 0;
  let start = 0;
  for (let place = 0; place < places; place++) {
    if (marks[place] !== cut) continue;
    out[at] = place + 1 - start;
    start = place + 1;
    at += 2;
  }
  out[at] = total - start;
}

/** Work space of pieces up to a raw length. */
export class SpanScratch {
  readonly tokens: Int32Array;
  /** Lengths of the runs kept, noise, kept, noise, … */
  readonly runs: Int32Array;
  private readonly marks: Uint8Array;

  constructor(rawLength: number) {
    this.tokens = new Int32Array(rawLength);
    this.runs = new Int32Array(rawLength + 1);
    this.marks = new Uint8Array(rawLength);
  }

  /** Draws the runs of n raw tokens, `noise` of them in `spans` spans (1 <= spans <= noise, n - noise). */
  draw(random: Random, n: number, noise: number, spans: number): void {
    composition(random, n - noise, spans, this.runs, 0, this.marks);
    composition(random, noise, spans, this.runs, 1, this.marks);
  }
}

/** Where a piece is written, and what marks it. */
export interface PieceTarget {
  inputs: Int32Array;
  /** Position of the next input; moved past the piece. */
  inputAt: number;
  labels: Int32Array;
  labelAt: number;
  /** Ids of the sentinels, the first one first. */
  sentinels: Int32Array;
  /** Sentinels already used in this row. */
  firstSentinel: number;
  /** Ends the inputs; -1: nothing does. */
  inputEnd: number;
  /** Ends the labels; -1: nothing does. */
  labelEnd: number;
}

/** Writes the corrupted inputs and labels of the piece whose tokens and runs are in `scratch`. */
export function writePiece(scratch: SpanScratch, spans: number, prefix: readonly number[], target: PieceTarget): void {
  const { tokens, runs } = scratch;
  const { inputs, labels, sentinels } = target;
  let at = target.inputAt;
  let labelAt = target.labelAt;
  let from = 0;
  for (let i = 0; i < prefix.length; i++) inputs[at++] = prefix[i]!;
  for (let span = 0; span < spans; span++) {
    const sentinel = sentinels[target.firstSentinel + span]!;
    for (const end = from + runs[2 * span]!; from < end; from++) inputs[at++] = tokens[from]!;
    inputs[at++] = sentinel;
    labels[labelAt++] = sentinel;
    for (const end = from + runs[2 * span + 1]!; from < end; from++) labels[labelAt++] = tokens[from]!;
  }
  if (target.inputEnd >= 0) inputs[at++] = target.inputEnd;
  if (target.labelEnd >= 0) labels[labelAt++] = target.labelEnd;
  target.inputAt = at;
  target.labelAt = labelAt;
}
