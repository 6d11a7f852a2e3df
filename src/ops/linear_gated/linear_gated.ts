/**
 * linear_gated: gate and up of inference in 16 bits with the activation in one launch, on Hopper.
 *
 *   y[n,o] = f(sum_i x[n,i] * weight[0,o,i]) * sum_i x[n,i] * weight[1,o,i]
 *
 * x [N,I], weight [2,O,I] with the gate first, y [N,O]. Sums are float32 and not rounded before f, which `kind` names: activation.ts.
 * Inference only: no gradients.
 */
import { type AnyKernel, defineKernel } from '../../backend/kernel.ts';
import { run } from '../../tensor/autograd.ts';
import type { Tensor } from '../../tensor/tensor.ts';
import { type Activation, activations, definition } from '../activation/activation.ts';
import { linearGatedPlan } from './linear_gated.cuda.ts';

export const linearGatedKernel = defineKernel({
  name: 'linear_gated',
  only: 'cuda',
  arch: 90,
  newest: 90,
  types: ['bf16', 'f16'],
  inputs: { x: '[N,I]', weight: '[2,O,I]' },
  updates: {},
  outputs: { y: '[N,O]' },
  scalars: { kind: 'i32' },
  requires: { 'I and O are multiples of 8': ({ I, O }) => I % 8 === 0 && O % 8 === 0 },
  cases: [
    { sizes: { N: 1, I: 8, O: 8 }, scalars: { kind: 0 } },
    { sizes: { N: 5, I: 72, O: 40 }, scalars: { kind: 1 } },
    { sizes: { N: 130, I: 192, O: 216 }, scalars: { kind: 2 } },
    { sizes: { N: 300, I: 328, O: 200 }, scalars: { kind: 3 } },
    { sizes: { N: 2100, I: 64, O: 264 }, scalars: { kind: 2 } }, // tiles for many rows
    { sizes: { N: 2050, I: 392, O: 104 }, scalars: { kind: 4 } },
  ],
  reference({ x, weight, y }, { N, I, O }, { kind }) {
    const { value } = definition(kind);
    for (let n = 0; n < N; n++)
      for (let o = 0; o < O; o++) {
        const sum = [0, 0];
        for (const half of [0, 1])
          for (let i = 0; i < I; i++) sum[half]! += x[n * I + i]! * weight[(half * O + o) * I + i]!;
        y[n * O + o] = value(sum[0]!) * sum[1]!;
      }
  },
  cuda: linearGatedPlan,
});

/** Results from which on its tiles fill a GPU: fewer are cublasLt's, which cuts them smaller. */
const RESULTS = 4 << 20;

/** Whether x [...,I] and weights [2,O,I] are multiplied faster so. */
export const canGate = ({ backend, dtype, length }: Tensor, weights: Tensor): boolean => {
  const [, O, I] = weights.shape as [number, number, number];
  return (
    (dtype === 'bf16' || dtype === 'f16') &&
    (length / I) * O >= RESULTS &&
    I % 8 === 0 &&
    O % 8 === 0 &&
    (backend.offers?.(linearGatedKernel as unknown as AnyKernel) ?? false)
  );
};

/** f(gate) * up of x [...,I], weights [2,O,I] being the gate's and up's: [...,O]. @throws ShapeError */
export function linearGated(x: Tensor, weights: Tensor, kind: Activation): Tensor {
  const [, O, I] = weights.shape as [number, number, number];
  const given = { x: x.view(x.length / I, I), weight: weights };
  const { y } = run(linearGatedKernel, given, { scalars: { kind: activations.indexOf(kind) } });
  return y.view(...x.shape.slice(0, -1), O);
}
