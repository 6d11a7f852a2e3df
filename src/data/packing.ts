/**
 * Which pieces share a row. A row is filled in two dimensions, encoder and decoder positions, from a window of denoisers
 * already drawn and a pool of open documents. Documents are cut where the row asks for it and go on later, so that
 * rows are full, nothing is thrown away, and every drawn denoiser is used: the mixture is what was asked for.
 *
 * Denoisers whose labels are long for their inputs (S) are put together with those whose labels are short (R): a row of
 * R alone leaves its decoder empty, one of S alone its encoder. A piece may take so much of a row that what remains
 * can still be filled by the other kind; how many of either a row gets follows from what is waiting.
 */
import { type Denoiser, fullLength, noiseOf, type Room } from './denoiser.ts';

/** A document, or what is left of one. */
export interface Remnant {
  shard: number;
  start: number;
  length: number;
}

/** A piece of a document under a denoiser. */
export interface Piece extends Remnant {
  denoiser: number;
}

/** Everything about one denoiser's pieces by raw length. */
export interface PieceTable {
  /** Raw tokens of the longest piece. */
  full: number;
  /** Encoder positions, decoder positions and spans of n raw tokens. */
  inputs: Int32Array;
  labels: Int32Array;
  spans: Int32Array;
  noise: Int32Array;
  /** Labels per input of a full piece. */
  ratio: number;
}

/** Lengths of a denoiser's pieces in `room`; `labelEnd`: an EOS ends the labels of each piece. */
export function pieceTable(denoiser: Denoiser, room: Room, labelEnd: 0 | 1): PieceTable {
  const full = fullLength(denoiser, room);
  const make = () => new Int32Array(full + 1);
  const table = { full, inputs: make(), labels: make(), spans: make(), noise: make(), ratio: 0 };
  for (let n = 2; n <= full; n++) {
    const { noise, spans } = noiseOf(denoiser, n);
    table.noise[n] = noise;
    table.spans[n] = spans;
    table.inputs[n] = (denoiser.prefix?.length ?? 0) + n - noise + spans + 1;
    table.labels[n] = noise + spans + labelEnd;
  }
  table.ratio = table.labels[full]! / table.inputs[full]!;
  return table;
}

/** Documents between two pieces of one: neighbours in a batch differ, and a long document is done soon. */
const ROTATION = 16;
/** Drawn denoisers that wait, and open documents: enough to choose from, few enough to store with a checkpoint. */
const WINDOW = 64;
/** A piece cut out of a longer document, and what is left of one, has at least this many tokens (fewer in tiny rows). */
const SHORTEST_CUT = 32;
/** Pieces that share a row to balance it are not cut below this part of their full length. */
const LEAST_SHARE = 1 / 3;
/** Share of the wanted length that a whole document may miss before another is cut instead. */
const WHOLE_TOLERANCE = 0.03;

export interface PackingState {
  pending: number[];
  pool: Remnant[];
}

export interface Supply {
  /** The next document. */
  document(): Remnant;
  /** The next denoiser. */
  denoiser(): number;
}

type Kind = 'heavy' | 'even' | 'light';

export class RowComposer {
  private readonly tables: PieceTable[];
  private readonly kinds: Kind[];
  private readonly room: Room;
  private readonly sentinels: number;
  private readonly supply: Supply;
  private readonly shortest: number;
  private readonly pending: number[];
  private readonly pool: Remnant[];

  /** `sentinels`: how many a row may use. */
  constructor(
    tables: PieceTable[],
    limits: Room & { sentinels: number },
    supply: Supply,
    state: PackingState = { pending: [], pool: [] },
  ) {
    this.tables = tables;
    this.room = limits;
    this.sentinels = limits.sentinels;
    this.supply = supply;
    const diagonal = limits.labels / limits.inputs;
    this.kinds = tables.map(({ ratio }) =>
      ratio > 1.1 * diagonal ? 'heavy' : ratio < 0.9 * diagonal ? 'light' : 'even',
    );
    this.shortest = Math.max(2, Math.min(SHORTEST_CUT, Math.floor(Math.min(...tables.map(({ full }) => full)) / 8)));
    this.pending = [...state.pending];
    this.pool = state.pool.map((remnant) => ({ ...remnant }));
  }

  state(): PackingState {
    return { pending: this.pending, pool: this.pool };
  }

  /** The pieces of a row that holds one, as long as it can be. */
  single(): Piece[] {
    this.refill();
    const denoiser = this.pending.shift()!;
    const { length } = this.pool[0]!;
    const { full } = this.tables[denoiser]!;
    return [this.take(0, denoiser, length <= full ? length : Math.min(full, length - this.shortest))];
  }

  /** The pieces of the next row. */
  packed(): Piece[] {
    const pieces: Piece[] = [];
    const left = { inputs: this.room.inputs, labels: this.room.labels, sentinels: this.sentinels };
    const used: Record<Kind, number> = { heavy: 0, even: 0, light: 0 };
    for (;;) {
      this.refill();
      const at = this.choose(pieces.length === 0, left);
      if (at < 0) return pieces;
      const denoiser = this.pending[at]!;
      const table = this.tables[denoiser]!;
      const kind = this.kinds[denoiser]!;
      const fit = this.fit(table, left);
      const wanted = this.share(table, kind, left, used, fit);
      const choice = this.document(pieces.length === 0, wanted, fit);
      if (!choice) return pieces;
      this.pending.splice(at, 1);
      const piece = this.take(choice.at, denoiser, choice.length);
      pieces.push(piece);
      used[kind]++;
      left.inputs -= table.inputs[piece.length]!;
      left.labels -= table.labels[piece.length]!;
      left.sentinels -= table.spans[piece.length]!;
    }
  }

  private refill(): void {
    while (this.pending.length < WINDOW) this.pending.push(this.supply.denoiser());
    while (this.pool.length < WINDOW) this.pool.push(this.supply.document());
  }

  /** The longest piece that what is left of a row can hold. */
  private fit(table: PieceTable, left: Room & { sentinels: number }): number {
    let low = 0;
    let high = table.full + 1; // table.inputs[low] fits, table.inputs[high] does not
    while (high - low > 1) {
      const n = (low + high) >>> 1;
      const fits =
        table.inputs[n]! <= left.inputs && table.labels[n]! <= left.labels && table.spans[n]! <= left.sentinels;
      if (fits) low = n;
      else high = n;
    }
    return low >= 2 ? low : 0;
  }

  /** Index in `pending` of the denoiser to place next, or -1: nothing worth placing fits. */
  private choose(first: boolean, left: Room & { sentinels: number }): number {
    if (first) return 0;
    const diagonal = this.room.labels / this.room.inputs;
    const slope = left.labels / Math.max(left.inputs, 1);
    const order: Kind[] =
      slope > 1.1 * diagonal
        ? ['heavy', 'even', 'light']
        : slope < 0.9 * diagonal
          ? ['light', 'even', 'heavy']
          : ['even', 'light', 'heavy'];
    for (const kind of order) {
      for (let at = 0; at < this.pending.length; at++) {
        const denoiser = this.pending[at]!;
        if (this.kinds[denoiser] !== kind) continue;
        if (this.fit(this.tables[denoiser]!, left) >= this.shortest) return at;
      }
    }
    return -1;
  }

  /** Raw tokens that a piece should take of what is left, so that the rest can still be filled. */
  private share(table: PieceTable, kind: Kind, left: Room, used: Record<Kind, number>, fit: number): number {
    if (kind === 'even' || fit === 0) return fit;
    const partner = kind === 'heavy' ? 'light' : 'heavy';
    const waiting = { heavy: 0, even: 0, light: 0 };
    let ratio = 0; // of the partner that comes next
    for (const denoiser of this.pending) {
      const other = this.kinds[denoiser]!;
      if (waiting[other]++ === 0 && other === partner) ratio = this.tables[denoiser]!.ratio;
    }
    if (waiting[partner] === 0) return fit;
    // After n tokens, labels/inputs of the rest is the partner's ratio: n (l - ratio·i) = labels - ratio·inputs.
    const perToken = (table.labels[table.full]! - ratio * table.inputs[table.full]!) / table.full;
    const balanced = (left.labels - ratio * left.inputs) / perToken;
    const perRow = Math.max(1, Math.round(waiting[kind] / waiting[partner])) - used[kind];
    const wanted = Math.max(balanced, 0) / Math.max(1, perRow);
    const least = Math.min(fit, Math.floor(LEAST_SHARE * table.full));
    const n = Math.min(fit, Math.max(least, Math.floor(wanted)));
    // What n leaves is worth leaving only if a piece can still go there.
    return left.inputs - table.inputs[n]! < this.shortest ? fit : n;
  }

  /** The document to cut `wanted` tokens from, or to take whole when it has at most `fit`. */
  private document(first: boolean, wanted: number, fit: number): { at: number; length: number } | null {
    let best: { at: number; length: number } | null = null;
    let bestCost = Infinity;
    const tolerance = WHOLE_TOLERANCE * wanted;
    for (let at = 0; at < (first ? 1 : this.pool.length); at++) {
      const { length } = this.pool[at]!;
      let n = length;
      let cost = Math.max(0, wanted - length);
      if (length > fit || length > wanted + tolerance) {
        n = Math.min(wanted, length - this.shortest);
        if (n < this.shortest) {
          if (length > fit) continue;
          n = length;
        }
        cost = wanted - n + tolerance;
      }
      if (cost >= bestCost) continue;
      bestCost = cost;
      best = { at, length: n };
      if (cost === 0) break;
    }
    return best;
  }

  /** Cuts a piece off an open document; what is left of it queues again behind a few others. */
  private take(at: number, denoiser: number, length: number): Piece {
    const { shard, start, length: whole } = this.pool.splice(at, 1)[0]!;
    if (whole > length) this.pool.splice(ROTATION, 0, { shard, start: start + length, length: whole - length });
    return { denoiser, shard, start, length };
  }
}
