/**
 * What narrows the choice before a token is drawn: each sets the scores of tokens that are out to -infinity. `keep` tokens
 * at least stay. Probabilities are the softmax of the scores of the row as they are.
 */
import type { RowProcessor } from './processors.ts';

/** Tokens that are still in, with their probabilities. */
interface Choice {
  ids: Int32Array;
  probabilities: Float64Array;
}

function choiceOf(scores: Float32Array): Choice {
  let count = 0;
  let most = Number.NEGATIVE_INFINITY;
  for (const s of scores) {
    if (s === Number.NEGATIVE_INFINITY) continue;
    count++;
    if (s > most) most = s;
  }
  const ids = new Int32Array(count);
  const probabilities = new Float64Array(count);
  let sum = 0;
  let i = 0;
  for (let v = 0; v < scores.length; v++) {
    if (scores[v] === Number.NEGATIVE_INFINITY) continue;
    ids[i] = v;
    sum += probabilities[i++] = Math.exp(scores[v]! - most);
  }
  for (let k = 0; k < count; k++) probabilities[k]! /= sum;
  return { ids, probabilities };
}

const remove = (scores: Float32Array, id: number) => {
  scores[id] = Number.NEGATIVE_INFINITY;
};

/** Numbers 0 … n-1, by `value` from the smallest on, equal ones in order. */
const orderBy = (n: number, value: (i: number) => number): Int32Array =>
  Int32Array.from({ length: n }, (_, i) => i).sort((a, b) => value(a) - value(b) || a - b);

/** The k-th largest of the scores, -infinity when there are fewer. */
function kthLargest(scores: Float32Array, k: number): number {
  // A heap of the k largest so far, the smallest of them on top.
  const heap = new Float32Array(Math.min(k, scores.length));
  let size = 0;
  const sink = () => {
    for (let i = 0; ; ) {
      let least = 2 * i + 1;
      if (least >= size) return;
      if (least + 1 < size && heap[least + 1]! < heap[least]!) least++;
      if (heap[i]! <= heap[least]!) return;
      [heap[i], heap[least]] = [heap[least]!, heap[i]!];
      i = least;
    }
  };
  for (const s of scores) {
    if (size < heap.length) {
      let i = size++;
      heap[i] = s;
      for (let up = (i - 1) >> 1; i > 0 && heap[up]! > heap[i]!; i = up, up = (i - 1) >> 1)
        [heap[i], heap[up]] = [heap[up]!, heap[i]!];
    } else if (s > heap[0]!) {
      heap[0] = s;
      sink();
    }
  }
  return heap[0] ?? Number.NEGATIVE_INFINITY;
}

export const temperature =
  (t: number): RowProcessor =>
  (scores) => {
    for (let v = 0; v < scores.length; v++) scores[v]! /= t;
  };

/** The k likeliest, and those that are as likely as the last of them (Fan et al. 2018, arXiv:1805.04833). */
export const topKOnly =
  (k: number, keep: number): RowProcessor =>
  (scores) => {
    const least = kthLargest(scores, Math.max(k, keep));
    for (let v = 0; v < scores.length; v++) if (scores[v]! < least) remove(scores, v);
  };

/** The fewest tokens with at least the mass p (Holtzman et al. 2020, arXiv:1904.09751). */
export const topP =
  (p: number, keep: number): RowProcessor =>
  (scores) => {
    const { ids, probabilities } = choiceOf(scores);
    const order = orderBy(ids.length, (i) => probabilities[i]!);
    let mass = 0;
    for (const i of order.subarray(0, Math.max(0, order.length - keep))) {
      mass += probabilities[i]!;
      if (mass > 1 - p) return;
      remove(scores, ids[i]!);
    }
  };

/** Tokens with at least the share p of the likeliest one's probability (Nguyen et al. 2024, arXiv:2407.01082). */
export const minP = (p: number, keep: number): RowProcessor =>
  bounded(keep, (probabilities) => p * probabilities.reduce((a, b) => Math.max(a, b), 0));

/** Tokens of at least the probability epsilon (Hewitt et al. 2022, arXiv:2210.15191). */
export const epsilonCutoff = (epsilon: number, keep: number): RowProcessor => bounded(keep, () => epsilon);

/** The same with the bound min(epsilon, sqrt(epsilon) e^-entropy). */
export const etaCutoff = (epsilon: number, keep: number): RowProcessor =>
  bounded(keep, (probabilities) => Math.min(epsilon, Math.sqrt(epsilon) * Math.exp(-entropy(probabilities))));

function bounded(keep: number, bound: (probabilities: Float64Array) => number): RowProcessor {
  return (scores) => {
    const { ids, probabilities } = choiceOf(scores);
    const least = bound(probabilities);
    const kept = kthLargest(scores, keep);
    for (const [i, id] of ids.entries()) if (probabilities[i]! < least && scores[id]! < kept) remove(scores, id);
  };
}

const entropy = (probabilities: Float64Array): number =>
  -probabilities.reduce((sum, p) => (p > 0 ? sum + p * Math.log(p) : sum), 0);

/** Tokens whose information is nearest to the expected one, up to the mass (Meister et al. 2022, arXiv:2202.00666). */
export const typicalP =
  (mass: number, keep: number): RowProcessor =>
  (scores) => {
    const { ids, probabilities } = choiceOf(scores);
    const expected = entropy(probabilities);
    const distance = probabilities.map((p) => Math.abs(-Math.log(p) - expected));
    const order = orderBy(ids.length, (i) => distance[i]!);
    let last = 0;
    for (let sum = 0; last < order.length - 1; last++) {
      sum += probabilities[order[last]!]!;
      if (sum >= mass) break;
    }
    const furthest = distance[order[last]!]!;
    for (const [place, i] of order.entries()) if (place >= keep && distance[i]! > furthest) remove(scores, ids[i]!);
  };
