/**
 * sample_token: draws a token for each row from the softmax of its logits over a temperature, after the choice was narrowed to
 *
 *   top_k   the k largest, and those that equal the last of them; 0: all (Fan et al. 2018, arXiv:1805.04833)
 *   top_p   of these the fewest, largest first, with at least the share p of their mass (Holtzman et al. 2020, arXiv:1904.09751)
 *   min_p   of these the ones with at least the share p of the likeliest one's probability (Nguyen et al. 2024, arXiv:2407.01082)
 *
 * Among equal ones the lower ids go first. logits [R,V]; options float32 [temperature, top_k, top_p, min_p]; position i32 [R]; words i32
 * [R,C,2]: the upper 26 bits of each pair are a uniform number u = (26 bits, 26 bits, 1) / 2^53, row r takes pair position[r]
 * (the last one beyond C). chosen i32 [R]: the first token, by id, up to which the probabilities exceed u. Rows of nothing but -infinity
 * and NaN give 0.
 */
import { defineKernel } from '../../backend/kernel.ts';
import { run } from '../../tensor/autograd.ts';
import type { Tensor } from '../../tensor/tensor.ts';
import { sampleTokenPlan } from './sample_token.cuda.ts';

/** Options of the test cases, by their vocabulary. */
const testOptions: Record<number, readonly number[]> = {
  77: [1, 0, 1, 0],
  203: [1, 5, 1, 0],
  4099: [1, 3000, 0.6, 0],
  5000: [2, 0, 1, 0.05],
  32128: [0.75, 50, 0.9, 0],
  32129: [1.5, 0, 0.95, 0.001],
};
/** The uniform number of two words. */
const uniform = (high: number, low: number) => ((high >>> 6) * 2 ** 26 + (low >>> 6) + 0.5) / 2 ** 52;

export const sampleTokenKernel = defineKernel({
  name: 'sample_token',
  inputs: { logits: '[R,V]', options: 'f32[4]', position: 'i32[R]', words: 'i32[R,C,2]' },
  outputs: { chosen: 'i32[R]' },
  requires: { 'C >= 1': ({ C }) => C >= 1 },
  cases: [
    { sizes: { R: 1, V: 1, C: 1 } },
    ...Object.keys(testOptions).map((V, i) => ({ sizes: { R: 3 + i, V: Number(V), C: 5 } })),
  ],
  fill: {
    // Many equal values; of 4099 a few thousand.
    logits: (random, { V }) => (V === 4099 ? Math.round(random()) : Math.round(random() ** 4 * 256) / 16),
    options: (_, { V }, i) => (testOptions[V] ?? testOptions[77]!)[i]!,
    position: (random, { C }) => Math.floor(random() * (C + 1)),
    words: (random) => Math.floor(random() * 2 ** 32) | 0,
  },
  reference({ logits, options, position, words, chosen }, { R, V, C }) {
    const [temperature, k, p, least] = options as unknown as [number, number, number, number];
    for (let r = 0; r < R; r++) {
      const scores = Array.from(logits.subarray(r * V, (r + 1) * V), (x) => x / temperature);
      let ids = Array.from(scores.keys()).filter((v) => scores[v]! > Number.NEGATIVE_INFINITY);
      ids.sort((a, b) => scores[b]! - scores[a]! || b - a);
      const most = scores[ids[0] ?? 0]!;
      const mass = (v: number) => Math.exp(scores[v]! - most);
      const sum = (some: number[]) => some.reduce((total, v) => total + mass(v), 0);
      if (k > 0 && k < ids.length) ids = ids.filter((v) => scores[v]! >= scores[ids[k - 1]!]!);
      if (p < 1) {
        const goal = p * sum(ids);
        let before = 0;
        ids = ids.filter((v) => {
          const kept = before < goal;
          before += mass(v);
          return kept;
        });
      }
      ids = ids.filter((v) => mass(v) >= least).sort((a, b) => a - b);
      const at = 2 * (r * C + Math.min(position[r]!, C - 1));
      let rest = uniform(words[at]!, words[at + 1]!) * sum(ids);
      chosen[r] = ids.find((v) => (rest -= mass(v)) < 0) ?? ids.at(-1) ?? 0;
    }
  },
  cuda: sampleTokenPlan,
});

/** What a call's draws depend on besides the logits; shapes as above. */
export interface Sampling {
  options: Tensor;
  position: Tensor;
  words: Tensor;
}

/** A token for each row of logits [...,V]: int32 [...]. @throws ShapeError */
export function sampleToken(logits: Tensor, sampling: Sampling): Tensor {
  const V = logits.shape.at(-1)!;
  const { chosen } = run(sampleTokenKernel, { logits: logits.view(logits.length / V, V), ...sampling });
  return chosen.view(...logits.shape.slice(0, -1));
}
