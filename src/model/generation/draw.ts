/**
 * Random choices from scores. What is drawn for a row and a step is a function of (seed, row, step): it does not depend
 * on the other rows. Words come from Philox4x32-10, key (seed, purpose), counter (place, step, row, seed's upper half).
 * Where every source has a seed of its own, rows are counted from the source's first one.
 */
import { UsageError } from '../../util/errors.ts';
import { philoxInto } from '../../util/philox.ts';

/** Keeps these words apart from dropout's, the initialisation's and the positions'. */
const PURPOSE = 0x67656e;

/** Seeds made from one are apart in their upper halves, which users' seeds seldom fill; there is room for so many. */
const SEEDS = 2 ** 20;

/** A seed for each of `count` texts, the first of which is number `first`: draws then do not depend on who shares a batch. */
export const seedsOf = (seed: number, count: number, first = 0): number[] =>
  Array.from({ length: count }, (_, i) => seed + 2 ** 32 * ((first + i) % SEEDS));

export class Draw {
  private readonly seeds: readonly number[];
  private readonly rowsPerSeed: number;
  private readonly block = new Uint32Array(4);

  /** @param rowsPerSeed rows that share a seed, those of a source; Infinity where all do @throws UsageError */
  constructor(seeds: readonly number[], rowsPerSeed: number) {
    const wrong = seeds.find((seed) => !Number.isSafeInteger(seed));
    if (wrong !== undefined) throw new UsageError(`generate: seed is ${wrong}, expected a whole number`);
    this.seeds = seeds;
    this.rowsPerSeed = rowsPerSeed;
  }

  /** Uniform in (0, 1), 52 bits. */
  private uniform(row: number, step: number, place: number): number {
    const [high, low] = this.words(row, step, place);
    return ((high >>> 6) * 2 ** 26 + (low >>> 6) + 0.5) / 2 ** 52;
  }

  /** The two words of a draw, int32; their upper 26 bits count. */
  words(row: number, step: number, place = 0): readonly [number, number] {
    const seed = this.seeds[Math.floor(row / this.rowsPerSeed)]!;
    philoxInto(this.block, place, step, row % this.rowsPerSeed, Math.floor(seed / 2 ** 32) | 0, seed | 0, PURPOSE);
    return [this.block[0]! | 0, this.block[1]! | 0];
  }

  /** A token drawn with probability softmax(scores). @throws UsageError when there is none to draw */
  token(scores: Float32Array, row: number, step: number): number {
    const most = largest(scores);
    let total = 0;
    for (const s of scores) total += Math.exp(s - most);
    if (!(most > Number.NEGATIVE_INFINITY && total < Number.POSITIVE_INFINITY)) throw nothingToDraw();
    const aim = this.uniform(row, step, 0) * total;
    let sum = 0;
    let last = 0;
    for (let v = 0; v < scores.length; v++) {
      const p = Math.exp(scores[v]! - most);
      if (p === 0) continue;
      sum += p;
      last = v;
      if (sum > aim) break;
    }
    return last;
  }

  /**
   * Up to `count` different places drawn one after the other with probability softmax(scores) among those left: the
   * largest of scores + Gumbel noise (Kool et al. 2019, arXiv:1903.06059), largest first.
   */
  places(scores: Float32Array, count: number, row: number, step: number): number[] {
    const found: { place: number; key: number }[] = [];
    for (let i = 0; i < scores.length; i++) {
      const s = scores[i]!;
      if (s === Number.NEGATIVE_INFINITY) continue;
      const key = s - Math.log(-Math.log(this.uniform(row, step, i)));
      if (found.length === count && key <= found[count - 1]!.key) continue;
      let at = found.length;
      while (at > 0 && found[at - 1]!.key < key) at--;
      found.splice(at, 0, { place: i, key });
      if (found.length > count) found.pop();
    }
    if (found.length === 0) throw nothingToDraw();
    return found.map(({ place }) => place);
  }
}

const nothingToDraw = () => new UsageError('generate: no token is left to draw, expected settings that allow one');

export function largest(scores: Float32Array): number {
  let most = Number.NEGATIVE_INFINITY;
  for (const s of scores) if (s > most) most = s;
  return most;
}

/** Where the first largest score is. */
export function likeliest(scores: Float32Array): number {
  let best = 0;
  let most = Number.NEGATIVE_INFINITY;
  for (let v = 0; v < scores.length; v++)
    if (scores[v]! > most) {
      most = scores[v]!;
      best = v;
    }
  return best;
}
