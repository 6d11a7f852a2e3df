/** Which examples a batch holds: another seeded order every epoch, examples of similar length together. */
import { permutation } from '../data/random.ts';

/** Batches whose examples are sorted by length among themselves: fewer would waste padding, more would lose chance. */
const BATCHES_SORTED_TOGETHER = 32;

/** Indices of the examples of every batch of an epoch. */
export function epochBatches(lengths: readonly number[], rows: number, seed: number, epoch: number): number[][] {
  const at = permutation(lengths.length, seed, 2 * epoch);
  const order = Array.from(lengths, (_, i) => at(i));
  const batches: number[][] = [];
  const pool = rows * BATCHES_SORTED_TOGETHER;
  for (let start = 0; start < order.length; start += pool) {
    const part = order.slice(start, start + pool).sort((a, b) => lengths[a]! - lengths[b]!);
    for (let i = 0; i < part.length; i += rows) batches.push(part.slice(i, i + rows));
  }
  const place = permutation(batches.length, seed, 2 * epoch + 1);
  return batches.map((_, i) => batches[place(i)]!);
}

/** The batches of all epochs, by their number. */
export class BatchOrder {
  /** Batches of an epoch. */
  readonly perEpoch: number;
  private readonly lengths: readonly number[];
  private readonly rows: number;
  private readonly seed: number;
  private readonly chosen: (epoch: number) => readonly number[];
  private made: { epoch: number; batches: number[][] } | undefined;

  /** @param chosen indices of an epoch's examples, always as many; each once when left out */
  constructor(
    lengths: readonly number[],
    rows: number,
    seed: number,
    chosen: (epoch: number) => readonly number[] = () => [...lengths.keys()],
  ) {
    this.lengths = lengths;
    this.rows = rows;
    this.seed = seed;
    this.chosen = chosen;
    this.perEpoch = Math.ceil(chosen(0).length / rows);
  }

  /** Indices of the examples of batch i, counted from the first epoch's first. */
  batch(i: number): readonly number[] {
    const epoch = Math.floor(i / this.perEpoch);
    if (this.made?.epoch !== epoch) {
      const chosen = this.chosen(epoch);
      const lengths = chosen.map((k) => this.lengths[k]!);
      const batches = epochBatches(lengths, this.rows, this.seed, epoch).map((batch) => batch.map((k) => chosen[k]!));
      this.made = { epoch, batches };
    }
    return this.made.batches[i % this.perEpoch]!;
  }
}
