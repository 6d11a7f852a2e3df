/**
 * linear_int8_add: a projection by a weight in int8, added to float32 numbers: a layer's result to the residual stream.
 *
 *   y[n,o] += m_n/127 * s[o] * sum_i q[n,i] * weight[o,i]
 *
 * q and m as in linear_int8.ts, of x [N,I] of type T; weight [O,I] packed, s [O]; y [N,O] float32. Inference only.
 */
import { defineKernel } from '../../backend/kernel.ts';
import { run } from '../../tensor/autograd.ts';
import type { Tensor } from '../../tensor/tensor.ts';
import { int8Fills, MOST_TERMS, quantised, scalesOf } from './linear_int8.ts';
import { packedDot } from './packed.ts';

export const linearInt8AddKernel = defineKernel({
  name: 'linear_int8_add',
  inputs: { x: '[N,I]', weight: 'i8[O,I]', scales: 'f32[O]' },
  updates: { y: 'f32[N,O]' },
  outputs: {},
  requires: { [`I <= ${MOST_TERMS}`]: ({ I }) => I <= MOST_TERMS },
  cases: [
    { sizes: { N: 1, I: 1, O: 1 } },
    { sizes: { N: 1, I: 515, O: 131 } },
    { sizes: { N: 7, I: 64, O: 40 } },
    { sizes: { N: 67, I: 45, O: 101 } },
    { sizes: { N: 301, I: 128, O: 83 } },
  ],
  fill: { x: int8Fills.x, weight: int8Fills.weight, scales: int8Fills.scales },
  reference({ x, weight, scales, y }, { N, I, O }) {
    for (let n = 0; n < N; n++) {
      const { q, step } = quantised(x.subarray(n * I, (n + 1) * I));
      for (let o = 0; o < O; o++) y[n * O + o]! += step * scales[o]! * packedDot(q, weight, o, O);
    }
  },
});

/** Adds x [...,I] times the transpose of a weight in int8 [O,I] to `stream`, float32 [...,O]. @throws ShapeError */
export function linearInt8Add(x: Tensor, weight: Tensor, stream: Tensor): void {
  const rows = (t: Tensor) => t.view(t.length / t.shape.at(-1)!, t.shape.at(-1)!);
  run(linearInt8AddKernel, { x: rows(x), weight, scales: scalesOf(weight), y: rows(stream) });
}
