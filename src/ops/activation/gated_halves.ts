/**
 * gated_halves: gated_activation of gate and up that lie in one row, as one product with both matrices leaves them.
 *
 *   y[n,i] = f(gateUp[n,0,i]) * gateUp[n,1,i]
 *
 * gateUp [N,2,F]; y [N,F]. The gradient is one row in the same way, so that one product takes it further. The backward kernel
 * also gives y again, to who did not keep it. f by `kind`: activation.ts.
 */
import { defineKernel } from '../../backend/kernel.ts';
import { isAwaited, record, remade, run } from '../../tensor/autograd.ts';
import type { Tensor } from '../../tensor/tensor.ts';
import { gatedHalvesBackwardPlan, gatedHalvesForwardPlan } from './activation.cuda.ts';
import { type Activation, activations, definition } from './activation.ts';

const cases = [
  { sizes: { N: 1, F: 1 }, scalars: { kind: 2 } },
  { sizes: { N: 5, F: 37 }, scalars: { kind: 3 } },
  ...activations.map((_, kind) => ({ sizes: { N: 3, F: 1032 }, scalars: { kind } })),
  { sizes: { N: 21, F: 2048 }, scalars: { kind: 2 } },
];
/** Into the tails, where cancellation shows. */
const fill = { gateUp: (random: () => number) => 14 * random() - 7 };

export const gatedHalvesForward = defineKernel({
  name: 'gated_halves_forward',
  inputs: { gateUp: '[N,2,F]' },
  outputs: { y: '[N,F]' },
  scalars: { kind: 'i32' },
  cases,
  fill,
  reference({ gateUp, y }, { N, F }, { kind }) {
    for (let n = 0; n < N; n++)
      for (let i = 0; i < F; i++)
        y[n * F + i] = definition(kind).value(gateUp[2 * n * F + i]!) * gateUp[(2 * n + 1) * F + i]!;
  },
  cuda: gatedHalvesForwardPlan,
});

export const gatedHalvesBackward = defineKernel({
  name: 'gated_halves_backward',
  inputs: { dy: '[N,F]', gateUp: '[N,2,F]' },
  outputs: { dgateUp: '[N,2,F]', y: '[N,F]?' },
  scalars: { kind: 'i32' },
  cases: [...cases, { sizes: { N: 7, F: 96 }, scalars: { kind: 2 }, absent: ['y'] as const }],
  fill,
  reference({ dy, gateUp, dgateUp, y }, { N, F }, { kind }) {
    for (let n = 0; n < N; n++)
      for (let i = 0; i < F; i++) {
        const [gate, up, here] = [2 * n * F + i, (2 * n + 1) * F + i, n * F + i];
        const value = definition(kind).value(gateUp[gate]!);
        dgateUp[gate] = dy[here]! * gateUp[up]! * definition(kind).slope(gateUp[gate]!);
        dgateUp[up] = dy[here]! * value;
        if (y) y[here] = value * gateUp[up]!;
      }
  },
  cuda: gatedHalvesBackwardPlan,
});

/** f(gate) * up of rows [...,2F] with the gate first: [...,F]. @throws ShapeError */
export function gatedHalves(gateUp: Tensor, name: Activation): Tensor {
  const scalars = { kind: activations.indexOf(name) };
  const F = gateUp.shape.at(-1)! / 2;
  const N = gateUp.length / (2 * F);
  const halves = gateUp.view(N, 2, F);
  const y = run(gatedHalvesForward, { gateUp: halves }, { scalars }).y.view(...gateUp.shape.slice(0, -1), F);
  record([y], [gateUp], ([dy]) => {
    const without = isAwaited(y) ? [] : ['y'];
    const backward = run(gatedHalvesBackward, { dy: dy!.view(N, F), gateUp: halves }, { scalars, without });
    if (backward.y) remade(y, backward.y);
    return [backward.dgateUp];
  });
  return y;
}
