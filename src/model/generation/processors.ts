/**
 * What changes scores before a token is chosen. The classes are transformers.js's, so that processors written for it run
 * here; the library's own are functions over one row (processors_of.ts has their order).
 */
import { type ResultTensor, resultTensor } from '../result.ts';

/** Scores of R rows, [R,V]; scores[r] is a view of row r. Both may be written to. */
export type Scores = ResultTensor & { readonly data: Float32Array; readonly [row: number]: ResultTensor };

/** `data`, [rows, V], with views of its rows. */
export function scoresOf(data: Float32Array, rows: number): Scores {
  const V = data.length / rows;
  const scores = resultTensor([rows, V], data) as Scores & Record<number, ResultTensor>;
  for (let r = 0; r < rows; r++) scores[r] = resultTensor([V], data.subarray(r * V, (r + 1) * V));
  return scores;
}

export class LogitsProcessor {
  /**
   * Changes `scores` [R,V] in place or returns others of the same shape; input_ids are the tokens of each row so far,
   * the start token first. To be overridden.
   */
  _call(_input_ids: number[][], scores: Scores): ResultTensor {
    return scores;
  }
}

/** Processors that run one after the other. */
export class LogitsProcessorList extends LogitsProcessor {
  readonly processors: LogitsProcessor[] = [];

  push(item: LogitsProcessor): void {
    this.processors.push(item);
  }

  extend(items: Iterable<LogitsProcessor>): void {
    this.processors.push(...items);
  }

  override _call(input_ids: number[][], scores: Scores): ResultTensor {
    let changed: ResultTensor = scores;
    for (const processor of this.processors) changed = processor._call(input_ids, changed as Scores);
    return changed;
  }

  [Symbol.iterator](): Iterator<LogitsProcessor> {
    return this.processors.values();
  }
}

/** Changes one row's scores [V] in place, given its tokens so far and its number. */
export type RowProcessor = (scores: Float32Array, tokens: readonly number[], row: number) => void;

/** Tokens seen become less likely by `penalty` (Keskar et al. 2019, arXiv:1909.05858). */
export const repetitionPenalty =
  (penalty: number, seenBy?: (row: number) => readonly number[]): RowProcessor =>
  (scores, tokens, row) => {
    for (const id of new Set(seenBy ? seenBy(row) : tokens))
      scores[id] = scores[id]! < 0 ? scores[id]! * penalty : scores[id]! / penalty;
  };

/** The tokens that came after each sequence of size - 1 tokens. */
function continuations(tokens: readonly number[], size: number): Map<string, number[]> {
  const after = new Map<string, number[]>();
  for (let i = 0; i + size <= tokens.length; i++) {
    const key = tokens.slice(i, i + size - 1).join();
    const list = after.get(key);
    if (list) list.push(tokens[i + size - 1]!);
    else after.set(key, [tokens[i + size - 1]!]);
  }
  return after;
}

/** No sequence of `size` tokens occurs twice (Paulus et al. 2017, arXiv:1705.04304). */
export const noRepeatNGram =
  (size: number): RowProcessor =>
  (scores, tokens) => {
    if (tokens.length + 1 < size) return;
    const start = tokens.length - (size - 1);
    for (let i = 0; i + size <= tokens.length; i++) {
      let same = true;
      for (let k = 0; k < size - 1 && same; k++) same = tokens[i + k] === tokens[start + k];
      if (same) scores[tokens[i + size - 1]!] = Number.NEGATIVE_INFINITY;
    }
  };

/** No sequence of `size` tokens of a row's source occurs. */
export function noRepeatOf(
  size: number,
  sources: readonly (readonly number[])[],
  sourceOf: (row: number) => number,
): RowProcessor {
  const banned = sources.map((source) => continuations(source, size));
  return (scores, tokens, row) => {
    if (tokens.length + 1 < size) return;
    const key = tokens.slice(tokens.length + 1 - size).join();
    for (const id of banned[sourceOf(row)]!.get(key) ?? []) scores[id] = Number.NEGATIVE_INFINITY;
  };
}

/** Adds each bias to the score of the token that completes its sequence. */
export const sequenceBias =
  (biases: readonly (readonly [readonly number[], number])[]): RowProcessor =>
  (scores, tokens) => {
    const added = new Map<number, number>();
    for (const [sequence, bias] of biases) {
      const before = sequence.length - 1;
      if (before > tokens.length) continue;
      if (!sequence.slice(0, -1).every((id, i) => id === tokens[tokens.length - before + i])) continue;
      const last = sequence[before]!;
      added.set(last, Math.fround((added.get(last) ?? 0) + bias));
    }
    for (const [id, bias] of added) scores[id]! += bias;
  };

export const suppress =
  (ids: readonly number[], when: (length: number) => boolean = () => true): RowProcessor =>
  (scores, tokens) => {
    if (when(tokens.length)) for (const id of ids) scores[id] = Number.NEGATIVE_INFINITY;
  };

/** Only `ids` are left, with score 0, when the row has `length` tokens. */
export const force =
  (ids: readonly number[], length: number): RowProcessor =>
  (scores, tokens) => {
    if (tokens.length !== length) return;
    scores.fill(Number.NEGATIVE_INFINITY);
    for (const id of ids) scores[id] = 0;
  };

/**
 * The end's score grows by a power of `factor` from `start` tokens on.
 * Transformers differs: where the end is forbidden its score becomes NaN, which counts as the largest.
 */
export const exponentialDecay =
  (start: number, factor: number, eos: readonly number[]): RowProcessor =>
  (scores, tokens) => {
    if (tokens.length <= start) return;
    const growth = Math.fround(factor ** (tokens.length - start) - 1);
    for (const id of eos) if (Number.isFinite(scores[id])) scores[id]! += Math.fround(Math.abs(scores[id]!) * growth);
  };

/** NaN becomes 0, infinities the largest numbers. */
export const removeInvalid: RowProcessor = (scores) => {
  const most = 3.4028234663852886e38;
  for (let v = 0; v < scores.length; v++) {
    const s = scores[v]!;
    if (!Number.isFinite(s)) scores[v] = Number.isNaN(s) ? 0 : s > 0 ? most : -most;
  }
};

/** Log-probabilities of scores, in place. */
export const renormalize: RowProcessor = (scores) => {
  let most = Number.NEGATIVE_INFINITY;
  for (const s of scores) if (s > most) most = s;
  let sum = 0;
  for (const s of scores) sum += Math.exp(s - most);
  const lse = most + Math.log(sum);
  for (let v = 0; v < scores.length; v++) scores[v]! -= lse;
};
