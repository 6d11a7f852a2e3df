/**
 * gated_float8: the gated activation in float8 rows, for the projection that reads it.
 *
 *   z[n,f] = f(xScales[n] * gateScales[f] * gate[n,f]) * xScales[n] * upScales[f] * up[n,f],   values and scales of z as in
 *   quantise_float8.ts
 *
 * gate, up, values [N,F], the rows' scales xScales and scales [N], gateScales and upScales [F], 1 where they are left out: sums of float8
 * numbers get their scales here. f as in activation.ts. One pass over memory, rounded once. Inference only.
 */
import { defineKernel } from '../../backend/kernel.ts';
import { run } from '../../tensor/autograd.ts';
import type { Tensor } from '../../tensor/tensor.ts';
import { type Activation, activations, gatedActivationForward } from '../activation/activation.ts';
import { FLOAT8_ARCH, FLOAT8_BESIDE, FLOAT8_MULTIPLE, gatedFloat8Plan } from './linear_float8.cuda.ts';
import { inFloat8 } from './quantise_float8.ts';

export const gatedFloat8Kernel = defineKernel({
  name: 'gated_float8',
  inputs: {
    ...{ gate: '[N,F]', up: '[N,F]' },
    ...{ xScales: 'f32[N]?', gateScales: 'f32[F]?', upScales: 'f32[F]?' },
  },
  updates: {},
  outputs: { values: 'f8[N,F]', scales: 'f32[N]' },
  scalars: { kind: 'i32' },
  requires: { [`F a multiple of ${FLOAT8_MULTIPLE}`]: ({ F }) => F % FLOAT8_MULTIPLE === 0 },
  cases: [
    ...activations.map((_, kind) => ({ sizes: { N: 3, F: 48 }, scalars: { kind } })),
    { sizes: { N: 9, F: 2048 }, scalars: { kind: 2 }, absent: ['xScales', 'gateScales', 'upScales'] as const },
    { sizes: { N: 2, F: 10240 }, scalars: { kind: 2 } },
  ],
  fill: { gate: (random) => 14 * random() - 7 },
  reference({ gate, up, xScales, gateScales, upScales, values, scales }, { N, F }, { kind }) {
    const y = new Float64Array(N * F);
    const scaled = (sums: Float64Array, columns?: Float64Array) =>
      sums.map((sum, i) => (xScales?.[Math.floor(i / F)] ?? 1) * (columns?.[i % F] ?? 1) * sum);
    const given = { gate: scaled(gate, gateScales), up: scaled(up, upScales), y };
    gatedActivationForward.reference(given, { N: N * F }, { kind });
    for (let n = 0; n < N; n++) {
      const { values: q, scale } = inFloat8(y.subarray(n * F, (n + 1) * F));
      values.set(q, n * F);
      scales[n] = scale;
    }
  },
  cuda: gatedFloat8Plan,
  arch: FLOAT8_ARCH,
  types: FLOAT8_BESIDE,
  only: 'cuda',
});

/**
 * f(gate) * up elementwise, two tensors [...,F], which may be sums that lack their scales: float8 [...,F] with a scale per row.
 * @throws ShapeError
 */
export function gatedFloat8(
  gate: Tensor,
  up: Tensor,
  name: Activation,
  lacking: { xScales?: Tensor; gateScales?: Tensor; upScales?: Tensor } = {},
): Tensor {
  const F = gate.shape.at(-1)!;
  const rows = (t: Tensor) => t.view(t.length / F, F);
  const scalars = { kind: activations.indexOf(name) };
  const { values, scales } = run(gatedFloat8Kernel, { gate: rows(gate), up: rows(up), ...lacking }, { scalars });
  const result = values.view(...gate.shape);
  result.scales = scales;
  return result;
}
