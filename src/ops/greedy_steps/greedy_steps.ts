/**
 * greedy_steps, greedy_rows: some steps of a T5 decoder, from token to token: embedding, blocks of self-attention,
 * cross-attention and feed-forward, final norm, head, choice, `advance`.
 *
 *   x = embedding[token]
 *   for each layer:  x += O attend(Q h, K h, V h; own past, bias)   h = rms_norm(x)
 *                    x += O attend(Q h; crossKeys, crossValues)
 *                    x += down(f(gate h) * up h), or down(f(up h))
 *   token' = the first v with the largest alpha head[v] . rms_norm(x)
 *
 * R rows, M d_model, H heads of D, `hidden` d_ff, L layers, S source tokens, C tokens at most, E end tokens. `places[l]` says
 * where layer l's norm, q, k, v, o, cross-attention's norm, q, o, the feed-forward layer's norm, gate, up and down begin in
 * `parameters`, in units of 64 elements. token, ended, position and history are as in advance.ts, bias and caches as in
 * attention_decode.ts, `kind` as in activation.ts. For GPUs, where a launch takes longer than most of these ops.
 */

import type { CudaPlan } from '../../backend/cuda/plan.ts';
import type { FloatType } from '../../backend/dtype.ts';
import { type AnyKernel, defineKernel } from '../../backend/kernel.ts';
import { activationForward } from '../activation/activation.ts';
import { advanceKernel } from '../advance/advance.ts';
import { attentionDecode, cacheAppend } from '../attention_decode/attention_decode.ts';
import { FEW_ROWS, greedyStepsPlan, PLACES } from './greedy_steps.cuda.ts';
import { greedyRowsPlan, MOST_ROWS } from './rows.cuda.ts';

/** Hidden units of the cases. */
const hidden = 96;
const ALIGNMENT = 64;

/** Elements of a layer's parameters in the order of `places`. */
function lengths({ M, H, D }: Record<'M' | 'H' | 'D', number>, F: number): number[] {
  const square = M * H * D;
  return [M, square, square, square, square, M, square, square, M, F * M, F * M, M * F];
}
const total = (list: readonly number[]) => list.reduce((a, b) => a + b, 0);

/** A case's N for the other sizes; in each, no token is nearly as good as the best one. */
const sized = <S extends Record<'M' | 'H' | 'D' | 'L', number>>(sizes: S) => ({
  ...sizes,
  N: sizes.L * total(lengths(sizes, hidden)),
});
const common = { alpha: 0.5, scale: 1, eps: 1e-6, hidden, pad: 0 };
const one = sized({ R: 1, M: 128, H: 2, D: 64, L: 1, S: 7, C: 9, V: 41, P: 5, E: 0 });
const many = sized({ R: 19, M: 64, H: 3, D: 32, L: 2, S: 70, C: 40, V: 70, P: 9, E: 2 });
const several = sized({ R: 3, M: 192, H: 3, D: 32, L: 2, S: 300, C: 200, V: 29, P: 33, E: 2 });

interface Ways extends Pick<AnyKernel, 'name'> {
  most: number;
  cases: readonly StepCase[];
  cuda: CudaPlan;
  types?: readonly FloatType[];
}
interface StepCase {
  sizes: typeof one;
  scalars: typeof common & Record<'gated' | 'kind' | 'steps', number>;
  absent?: readonly ('bias' | 'crossSegments' | 'eos')[];
}

const defineSteps = ({ name, most, cases, cuda, types }: Ways) =>
  defineKernel({
    ...{ name, cases, cuda, ...(types && { types }) },
    only: 'cuda',
    inputs: {
      parameters: '[N]',
      places: 'i32[L,12]',
      embedding: '[V,M]',
      head: '[V,M]',
      norm: '[M]',
      bias: 'f32[H,P]?',
      crossKeys: '[L,R,S,H,D]',
      crossValues: '[L,R,S,H,D]',
      crossSegments: 'i32[R,S]?',
      eos: 'i32[E]?',
    },
    updates: {
      token: 'i32[R]',
      ended: 'i32[R]',
      position: 'i32[R]',
      history: 'i32[R,C]',
      keys: '[L,R,C,H,D]',
      values: '[L,R,C,H,D]',
    },
    outputs: {},
    scalars: {
      ...{ alpha: 'f32', scale: 'f32', eps: 'f32' },
      ...{ hidden: 'i32', gated: 'i32', kind: 'i32', pad: 'i32', steps: 'i32' },
    },
    requires: { [`at most ${most} rows`]: ({ R }: { R: number }) => R <= most },
    fill: {
      places: (_, sizes, i) => {
        const list = lengths(sizes, hidden);
        return (Math.floor(i / PLACES) * total(list) + total(list.slice(0, i % PLACES))) / ALIGNMENT;
      },
      parameters: (random) => 0.4 * random() - 0.2,
      crossSegments: (random) => Math.floor(random() * 3) - 1,
      token: (random, { V }) => Math.floor(random() * V),
      ended: () => 0,
      position: (random, { C }) => Math.floor((random() * C) / 2),
      history: () => -1,
      eos: (_, __, i) => 3 + i,
    },
    toleranceFactor: 4, // sums over a whole stack; norms are applied behind the products
    reference(a, { R, M, H, D, L, S, C, V, P, E }, { alpha, scale, eps, hidden: F, gated, kind, pad, steps }) {
      const { parameters, places, token, position } = a;
      const times = (offset: number, rows: number, x: Float64Array) =>
        Float64Array.from({ length: rows }, (_, o) => dot(parameters, offset + o * x.length, x));
      const normed = (x: Float64Array, weight: Float64Array) => {
        const r = 1 / Math.sqrt(x.reduce((sum, v) => sum + v * v, 0) / M + eps);
        return x.map((v, i) => v * r * weight[i]!);
      };
      for (let step = 0; step < steps; step++) {
        const chosen = new Float64Array(R);
        for (let r = 0; r < R; r++) {
          const x = a.embedding.slice(token[r]! * M, (token[r]! + 1) * M);
          const add = (y: Float64Array) => y.forEach((v, i) => void (x[i]! += v));
          const at = position.subarray(r, r + 1);
          for (let l = 0; l < L; l++) {
            const [n, q, k, v, o, crossN, crossQ, crossO, feedN, gate, up, down] = Array.from(
              places.subarray(l * PLACES, (l + 1) * PLACES),
              (place) => place * ALIGNMENT,
            ) as [number, number, number, number, number, number, number, number, number, number, number, number];
            const norm = (offset: number) => normed(x, parameters.subarray(offset, offset + M));
            const cache = (all: Float64Array, length: number) => {
              const size = length * H * D;
              return all.subarray((l * R + r) * size, (l * R + r + 1) * size);
            };
            const own = { keys: cache(a.keys, C), values: cache(a.values, C) };
            const own1 = { R: 1, B: 1, C, H, D };
            const absent = { position: undefined, bias: undefined, keySegments: undefined, origins: undefined };
            const out = new Float64Array(H * D);
            const h = norm(n);
            const append = { k: times(k, H * D, h), v: times(v, H * D, h), position: at, ...own };
            cacheAppend.reference(append, own1, {});
            const past = { ...absent, ...own, position: at, bias: a.bias };
            attentionDecode.reference({ ...past, q: times(q, H * D, h), out }, { ...own1, P }, { scale });
            add(times(o, M, out));
            const source = { keys: cache(a.crossKeys, S), values: cache(a.crossValues, S) };
            const keySegments = a.crossSegments?.subarray(r * S, (r + 1) * S);
            const query = times(crossQ, H * D, norm(crossN));
            const across = { ...absent, ...source, keySegments, q: query, out };
            attentionDecode.reference(across, { ...own1, C: S, P: 0 }, { scale });
            add(times(crossO, M, out));
            const f = norm(feedN);
            const upward = times(up, F, f);
            const activated = new Float64Array(F);
            const inner = gated ? times(gate, F, f) : upward;
            activationForward.reference({ x: inner, y: activated }, { N: F }, { kind });
            add(times(down, M, gated ? activated.map((y, i) => y * upward[i]!) : activated));
          }
          const last = normed(x, a.norm);
          let best = 0;
          let most = Number.NEGATIVE_INFINITY;
          for (let t = 0; t < V; t++) {
            const logit = alpha * dot(a.head, t * M, last);
            if (logit > most) [most, best] = [logit, t];
          }
          chosen[r] = best;
        }
        const { ended, history, eos } = a;
        advanceKernel.reference({ chosen, eos, token, ended, position, history }, { R, C, E }, { pad });
      }
    },
  });

/** For up to FEW_ROWS rows: all steps in one launch. */
export const greedySteps = defineSteps({
  name: 'greedy_steps',
  most: FEW_ROWS,
  cases: [
    { sizes: one, scalars: { ...common, gated: 0, kind: 0, steps: 1 }, absent: ['bias', 'crossSegments', 'eos'] },
    { sizes: one, scalars: { ...common, gated: 1, kind: 2, steps: 4 }, absent: ['eos'] },
    { sizes: several, scalars: { ...common, gated: 1, kind: 2, steps: 3 } },
  ],
  cuda: greedyStepsPlan,
});

/** For more rows: some launches a layer, on tensor cores. */
export const greedyRows = defineSteps({
  name: 'greedy_rows',
  most: MOST_ROWS,
  cases: [
    {
      sizes: { ...many, V: 19 },
      scalars: { ...common, gated: 0, kind: 0, steps: 1 },
      absent: ['bias', 'crossSegments'],
    },
    { sizes: many, scalars: { ...common, gated: 1, kind: 2, steps: 2 } },
  ],
  cuda: greedyRowsPlan,
  types: ['bf16', 'f16'],
});

/** The product of a matrix's row, which begins at `offset`, and x. */
function dot(matrix: Float64Array, offset: number, x: Float64Array): number {
  let sum = 0;
  for (let i = 0; i < x.length; i++) sum += matrix[offset + i]! * x[i]!;
  return sum;
}
