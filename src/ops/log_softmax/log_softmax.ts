/** log_softmax: y[n,v] = x[n,v] - log sum_v e^x[n,v], float32, for decoding. x [N,V]. No gradient. */
import { defineKernel } from '../../backend/kernel.ts';
import { run } from '../../tensor/autograd.ts';
import type { Tensor } from '../../tensor/tensor.ts';
import { logSoftmaxPlan } from './log_softmax.cuda.ts';

export const logSoftmaxKernel = defineKernel({
  name: 'log_softmax',
  inputs: { x: '[N,V]' },
  outputs: { y: 'f32[N,V]' },
  cases: [{ sizes: { N: 1, V: 1 } }, { sizes: { N: 7, V: 77 } }, { sizes: { N: 2, V: 32128 } }],
  fill: { x: (random) => random() * 40 - 20 },
  reference({ x, y }, { N, V }) {
    for (let n = 0; n < N; n++) {
      const row = x.subarray(n * V, (n + 1) * V);
      const largest = row.reduce((a, b) => Math.max(a, b), -Infinity);
      const lse = largest + Math.log(row.reduce((sum, v) => sum + Math.exp(v - largest), 0));
      for (let v = 0; v < V; v++) y[n * V + v] = row[v]! - lse;
    }
  },
  cuda: logSoftmaxPlan,
});

/** Log-probabilities of logits x [...,V], float32. */
export function logSoftmax(x: Tensor): Tensor {
  const V = x.shape.at(-1)!;
  return run(logSoftmaxKernel, { x: x.view(x.length / V, V) }).y.view(...x.shape);
}
