/**
 * attention_packed: attention, formulas in attention.ts, whose queries, keys and values are parts of rows, as one product with
 * several matrices leaves them; their gradients lie in rows in the same way, so that one product takes them further.
 *
 * q [B,M,Q,H,D] has the queries in its first part, kv [B,N,R,H,D] keys and values in its last two. In self-attention both are the
 * same tensor of three parts. Other parts of the gradients stay as they are. For CUDA, which it saves launches and passes over memory.
 */
import { defineKernel } from '../../backend/kernel.ts';
import { recall, record, run } from '../../tensor/autograd.ts';
import { Tensor } from '../../tensor/tensor.ts';
import { attentionBackwardPlan, attentionForwardPlan, packed } from './attention.cuda.ts';
import { type AttentionOptions, callOf, fill, gradientsWithout, requires, scalars, shared } from './attention.ts';
import { cases } from './cases.ts';
import { type AttentionArrays, type AttentionSizes, attend, attendBackward } from './reference.ts';

const inputs = { q: '[B,M,Q,H,D]', kv: '[B,N,R,H,D]', ...shared } as const;
const conditions = { ...requires, 'R at least 2': ({ R }: Sizes) => R >= 2 };

type Sizes = AttentionSizes & Record<'Q' | 'R', number>;
type Packed = Omit<AttentionArrays, 'q' | 'k' | 'v'> & Record<'q' | 'kv', Float64Array>;

/** Copies part `at` of rows of `parts` parts to or from an array of its own. */
function eachOf(
  { H, D }: Sizes,
  whole: Float64Array,
  [at, parts]: [number, number],
  f: (one: number, all: number) => void,
) {
  const width = H * D;
  for (let i = 0; i < whole.length / parts; i++) f(i, (Math.floor(i / width) * parts + at) * width + (i % width));
}
function partOf(sizes: Sizes, whole: Float64Array, place: [number, number]): Float64Array {
  const part = new Float64Array(whole.length / place[1]);
  eachOf(sizes, whole, place, (one, all) => void (part[one] = whole[all]!));
  return part;
}
const apart = (a: Packed, s: Sizes) => ({
  ...a,
  q: partOf(s, a.q, [0, s.Q]),
  k: partOf(s, a.kv, [s.R - 2, s.R]),
  v: partOf(s, a.kv, [s.R - 1, s.R]),
});

/** A few of attention's, of each kernel some: with three parts and with one and two. */
const packedCases = cases
  .filter((_, i) => i % 4 === 1 || i >= cases.length - 3)
  .map((c, i) => ({ ...c, sizes: { ...c.sizes, Q: i % 2 ? 3 : 1, R: i % 2 ? 3 : 2 } }));

export const attentionPackedForward = defineKernel({
  name: 'attention_packed_forward',
  only: 'cuda',
  inputs,
  updates: {},
  outputs: { out: '[B,M,H,D]', lse: 'f32[B,H,M]' },
  scalars,
  requires: conditions,
  fill,
  cases: packedCases,
  reference: (a, sizes, scalars) => attend({ ...apart(a, sizes), out: a.out, lse: a.lse }, sizes, scalars),
  cuda: packed(attentionForwardPlan),
});

export const attentionPackedBackward = defineKernel({
  name: 'attention_packed_backward',
  only: 'cuda',
  inputs: { dout: '[B,M,H,D]', out: '[B,M,H,D]', lse: 'f32[B,H,M]', ...inputs },
  updates: { dq: '[B,M,Q,H,D]', dkv: '[B,N,R,H,D]' },
  outputs: { dbias: 'f32[H,P]?', ddense: 'f32[E,G,M,N]?' },
  scalars,
  requires: conditions,
  fill: { ...fill, lse: (random, { N }) => Math.log(N) + random() },
  cases: packedCases.map((c) => ({ ...c, absent: [...c.absent, ...gradientsWithout(c.absent)] })),
  reference(a, s, scalars) {
    const { q, k, v } = apart(a, s);
    const [dq, dk, dv] = [q.slice(), k.slice(), v.slice()];
    attendBackward({ ...a, q, k, v, dq, dk, dv }, s, scalars);
    const put = (whole: Float64Array, place: [number, number], part: Float64Array) =>
      eachOf(s, whole, place, (one, all) => void (whole[all] = part[one]!));
    put(a.dq, [0, s.Q], dq);
    put(a.dkv, [s.R - 2, s.R], dk);
    put(a.dkv, [s.R - 1, s.R], dv);
  },
  cuda: packed(attentionBackwardPlan),
});

/**
 * Attention of the queries in q [B,M,Q,H,D] over the keys and values in kv [B,N,R,H,D], which may be the same tensor, Q and R being
 * 3 then, or else 1 and 2: [B,M,H,D]; gradients for q, kv, bias, dense. @throws ShapeError
 */
export function packedAttention(q: Tensor, kv: Tensor, options: AttentionOptions): Tensor {
  const { bias, dense } = options;
  const { given, scalars } = callOf(options);
  const { out, lse } = run(attentionPackedForward, { q, kv, ...given }, { scalars });
  record([out], [q, kv, bias, dense], ([dout]) => {
    const without = [bias?.needsGrad ? '' : 'dbias', dense?.needsGrad ? '' : 'ddense'];
    const dq = Tensor.empty(q.backend, q.dtype, q.shape);
    const dkv = kv === q ? dq : Tensor.empty(kv.backend, kv.dtype, kv.shape);
    const all = { dout: dout!, out, lse, q, kv: recall(kv), ...given, dq, dkv };
    const { dbias, ddense } = run(attentionPackedBackward, all, { scalars, without });
    return [dq, kv === q ? undefined : dkv, dbias, ddense];
  });
  return out;
}
