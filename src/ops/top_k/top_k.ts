/**
 * top_k: the K largest values of each row and where they are, largest first, equal ones by lower index.
 * x [N,V], values float32 [N,K], ids int32 [N,K], K <= V. NaN is never among them while K numbers are left.
 */
import { defineKernel } from '../../backend/kernel.ts';
import { run } from '../../tensor/autograd.ts';
import type { Tensor } from '../../tensor/tensor.ts';
import { topKPlan } from './top_k.cuda.ts';

export const topKKernel = defineKernel({
  name: 'top_k',
  inputs: { x: '[N,V]' },
  outputs: { values: 'f32[N,K]', ids: 'i32[N,K]' },
  requires: { '1 <= K <= V': ({ K, V }) => K >= 1 && K <= V },
  cases: [
    { sizes: { N: 1, V: 1, K: 1 } },
    { sizes: { N: 5, V: 77, K: 77 } },
    { sizes: { N: 9, V: 203, K: 5 } },
    { sizes: { N: 2, V: 32128, K: 1 } },
    { sizes: { N: 2, V: 32128, K: 50 } },
    { sizes: { N: 2, V: 5000, K: 300 } },
    { sizes: { N: 1, V: 5001, K: 1500 } },
  ],
  fill: { x: (random) => Math.round(random() * 512) / 64 }, // many equal values
  reference({ x, values, ids }, { N, V, K }) {
    for (let n = 0; n < N; n++) {
      const row = x.subarray(n * V, (n + 1) * V);
      const order = Array.from(row.keys()).sort((a, b) => row[b]! - row[a]! || a - b);
      for (let k = 0; k < K; k++) {
        ids[n * K + k] = order[k]!;
        values[n * K + k] = row[order[k]!]!;
      }
    }
  },
  cuda: topKPlan,
});

/** The K largest of each row of x [...,V]: values float32 [...,K], ids int32 [...,K]. @throws ShapeError */
export function topK(x: Tensor, K: number): { values: Tensor; ids: Tensor } {
  const V = x.shape.at(-1)!;
  const { values, ids } = run(topKKernel, { x: x.view(x.length / V, V) }, { sizes: { K } });
  const shape = [...x.shape.slice(0, -1), K];
  return { values: values.view(...shape), ids: ids.view(...shape) };
}

/** Where the first largest value of each row of x [...,V] is: int32 [...]. @throws ShapeError */
export function argmax(x: Tensor): Tensor {
  return topK(x, 1).ids.view(...x.shape.slice(0, -1));
}
