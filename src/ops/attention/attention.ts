/**
 * attention: softmax attention with an additive bias that depends on the relative position, in O(M + N) memory.
 *
 *   s[m,n] = scale * q[m] . k[n] + bias[h, clamp(pos(n) - pos(m), -R, R) + R] + dense[m,n]      R = (P - 1) / 2
 *   p[m,n] = exp(s[m,n] - lse[m]),  lse[m] = log sum_n exp(s[m,n]),  out[m] = sum_n drop[m,n] p[m,n] v[n]
 *
 * and with delta[m] = dout[m] . out[m]:
 *
 *   ds[m,n] = p[m,n] (drop[m,n] dout[m] . v[n] - delta[m]),  dbias and ddense: sums of ds,  dv[n] = sum_m drop p dout[m]
 *   dq[m] = scale sum_n ds[m,n] k[n],  dk[n] = scale sum_m ds[m,n] q[m]
 *
 * q, out [B,M,H,D], k, v [B,N,H,D]: M queries, N keys, H heads of width D. The sums run over the keys that m sees:
 * - causal: n <= m + queryOffset, by index; a query's position is m + queryOffset too unless queryPositions gives it;
 * - keySegments: those >= 0, and with querySegments those of the query's own segment.
 * A query that sees none has out 0, lse -infinity and no gradient. dense is one [M,N] plane per row or for all (E is
 * B or 1) and per head or for all (G is H or 1), its gradient the sum over what shares a plane. Dropout takes element
 * e of [B,H,M,N] as util/philox.ts says.
 *
 * T5 differs: scale is 1, its initialisation absorbs 1/sqrt(D).
 *
 * Source: Dao 2023, arXiv:2307.08691 (blocks, recomputation); the bias as Raffel et al. 2020, arXiv:1910.10683.
 */
import { defineKernel } from '../../backend/kernel.ts';
import { recall, record, run } from '../../tensor/autograd.ts';
import type { Tensor } from '../../tensor/tensor.ts';
import { ShapeError } from '../../util/errors.ts';
import { attentionBackwardPlan, attentionForwardPlan } from './attention.cuda.ts';
import { cases } from './cases.ts';
import { type AttentionSizes, attend, attendBackward } from './reference.ts';

/** What attention_packed.ts shares. */
export const shared = {
  bias: 'f32[H,P]?',
  dense: 'f32[E,G,M,N]?',
  querySegments: 'i32[B,M]?',
  keySegments: 'i32[B,N]?',
  queryPositions: 'i32[M]?',
  keyPositions: 'i32[N]?',
  rng: 'i32[2]?',
} as const;
/** Scalars of both of its kernels; causal is 0 or 1, `site` is dropout's. */
export const scalars = { scale: 'f32', causal: 'i32', queryOffset: 'i32', dropout: 'f32', site: 'i32' } as const;
/** What all of its kernels need of the sizes. */
export const requires = {
  'P odd': ({ P }: AttentionSizes) => P === 0 || P % 2 === 1,
  'E = 1 or B': ({ E, B }: AttentionSizes) => E === 0 || E === 1 || E === B,
  'G = 1 or H': ({ G, H }: AttentionSizes) => G === 0 || G === 1 || G === H,
};
const segment = (random: () => number) => Math.floor(random() * 3) - 1;
const position = (random: () => number) => Math.floor(random() * 40);
/** Segments of a few examples with padding, positions that repeat, any seed and step. */
export const fill = {
  querySegments: segment,
  keySegments: segment,
  queryPositions: position,
  keyPositions: position,
  rng: (random: () => number) => Math.floor(random() * 2 ** 31),
};

export const attentionForward = defineKernel({
  name: 'attention_forward',
  inputs: { q: '[B,M,H,D]', k: '[B,N,H,D]', v: '[B,N,H,D]', ...shared },
  updates: {},
  outputs: { out: '[B,M,H,D]', lse: 'f32[B,H,M]' },
  scalars,
  requires,
  fill,
  cases,
  reference: attend,
  cuda: attentionForwardPlan,
});

export const attentionBackward = defineKernel({
  name: 'attention_backward',
  inputs: {
    dout: '[B,M,H,D]',
    q: '[B,M,H,D]',
    k: '[B,N,H,D]',
    v: '[B,N,H,D]',
    out: '[B,M,H,D]',
    lse: 'f32[B,H,M]',
    ...shared,
  },
  updates: {},
  outputs: {
    dq: '[B,M,H,D]',
    dk: '[B,N,H,D]',
    dv: '[B,N,H,D]',
    dbias: 'f32[H,P]?',
    ddense: 'f32[E,G,M,N]?',
  },
  scalars,
  requires,
  fill: { ...fill, lse: (random, { N }) => Math.log(N) + random() },
  cases: cases.map((c) => ({ ...c, absent: [...c.absent, ...gradientsWithout(c.absent)] })),
  reference: attendBackward,
  cuda: attentionBackwardPlan,
});

/** Gradients that a backward pass leaves out, as its forward pass has no such bias. */
export function gradientsWithout(absent: readonly string[]): ('dbias' | 'ddense')[] {
  return (['dbias', 'ddense'] as const).filter((name) => absent.includes(name.slice(1)));
}

/** What a call of attention may have besides queries, keys and values; letters as above. */
export interface AttentionOptions {
  /** Additive bias by relative position, float32 [H, 2R + 1]; see relativeBias. */
  bias?: Tensor | undefined;
  /** Additive bias by element, float32 [B or 1, H or 1, M, N]. */
  dense?: Tensor | undefined;
  /** int32 [B,M]; needs keySegments. */
  querySegments?: Tensor | undefined;
  /** int32 [B,N]; below 0: no query sees the key. */
  keySegments?: Tensor | undefined;
  /** int32 [M], used by `bias` instead of m. */
  queryPositions?: Tensor | undefined;
  /** int32 [N], used by `bias` instead of n. */
  keyPositions?: Tensor | undefined;
  /** Whether query m sees keys up to m only; all by default. */
  causal?: boolean;
  /** Factor on q . k, 1 by default as in T5. */
  scale?: number;
  /** rng int32 [2] = seed and step, site tells apart the uses of one rng. */
  dropout?: { rate: number; rng: Tensor; site: number } | undefined;
}

/** What kernels are given beside queries, keys and values. @throws ShapeError */
export function callOf(options: AttentionOptions) {
  const { bias, dense, querySegments, keySegments, queryPositions, keyPositions, dropout } = options;
  if (querySegments && !keySegments)
    throw new ShapeError('attention: querySegments are given without keySegments, expected both or keySegments alone');
  const rng = dropout && dropout.rate > 0 ? dropout.rng : undefined;
  const scalars = {
    scale: options.scale ?? 1,
    causal: options.causal ? 1 : 0,
    queryOffset: 0, // a whole sequence; one token's is attention_decode's
    dropout: dropout?.rate ?? 0,
    site: dropout?.site ?? 0,
  };
  return { given: { bias, dense, querySegments, keySegments, queryPositions, keyPositions, rng }, scalars };
}

/** Attention of q [B,M,H,D] over k and v [B,N,H,D] -> [B,M,H,D]; gradients for q, k, v, bias, dense. @throws ShapeError */
export function attention(q: Tensor, k: Tensor, v: Tensor, options: AttentionOptions = {}): Tensor {
  const { bias, dense } = options;
  const { given, scalars } = callOf(options);
  const inputs = { q, k, v, ...given };
  const { out, lse } = run(attentionForward, inputs, { scalars });
  record([out], [q, k, v, bias, dense], ([dout]) => {
    const without = [bias?.needsGrad ? '' : 'dbias', dense?.needsGrad ? '' : 'ddense'];
    const given = { ...inputs, k: recall(k), v: recall(v), dout: dout!, out, lse };
    const { dq, dk, dv, dbias, ddense } = run(attentionBackward, given, { scalars, without });
    return [dq, dk, dv, dbias, ddense];
  });
  return out;
}
