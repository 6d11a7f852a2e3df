/**
 * feed_forward_int8: a feed-forward layer of T5 whose weights are in int8, added to the residual stream. Inference only.
 *
 *   h = rms_norm(x, norm)     a = f(gate h) * up h, or f(up h)     x += down a
 *
 * x [N,M] float32; gate, up [F,M] and down [M,F] packed, with scales per output; norm [M]. h and a are quantised by row, products
 * are formed and results do not depend on other rows as in linear_int8.ts; `kind` as in activation.ts. In one kernel, so that
 * neither h nor a is ever in memory as a whole.
 */
import { defineKernel } from '../../backend/kernel.ts';
import { run } from '../../tensor/autograd.ts';
import type { Tensor } from '../../tensor/tensor.ts';
import { type Activation, activationForward, activations } from '../activation/activation.ts';
import { int8Fills, MOST_TERMS, normed, quantised, scalesOf } from '../linear_int8/linear_int8.ts';
import { packedDot } from '../linear_int8/packed.ts';

const small = (random: () => number) => 1e-4 + 1e-3 * random();
const plain = ['gate', 'gateScales'] as const;

export const feedForwardInt8Kernel = defineKernel({
  name: 'feed_forward_int8',
  inputs: {
    norm: 'f32[M]',
    gate: 'i8[F,M]?',
    gateScales: 'f32[F]?',
    up: 'i8[F,M]',
    upScales: 'f32[F]',
    down: 'i8[M,F]',
    downScales: 'f32[M]',
  },
  updates: { x: 'f32[N,M]' },
  outputs: {},
  scalars: { eps: 'f32', kind: 'i32' },
  requires: { [`M, F <= ${MOST_TERMS}`]: ({ M, F }) => Math.max(M, F) <= MOST_TERMS },
  types: ['f32'],
  cases: [
    { sizes: { N: 1, M: 1, F: 1 }, scalars: { eps: 1e-6, kind: 0 }, absent: [...plain] },
    { sizes: { N: 1, M: 64, F: 128 }, scalars: { eps: 1e-6, kind: 2 } },
    { sizes: { N: 6, M: 64, F: 64 }, scalars: { eps: 0.1, kind: 3 } },
    { sizes: { N: 5, M: 37, F: 50 }, scalars: { eps: 1e-6, kind: 2 } },
    { sizes: { N: 5, M: 37, F: 50 }, scalars: { eps: 1e-6, kind: 0 }, absent: [...plain] },
    { sizes: { N: 258, M: 13, F: 17 }, scalars: { eps: 1e-6, kind: 1 } },
    { sizes: { N: 257, M: 64, F: 64 }, scalars: { eps: 1e-6, kind: 2 } },
  ],
  fill: {
    ...{ gate: int8Fills.weight, up: int8Fills.weight, down: int8Fills.weight },
    ...{ gateScales: small, upScales: small, downScales: small },
  },
  reference({ norm, gate, gateScales, up, upScales, down, downScales, x }, { N, M, F }, { eps, kind }) {
    for (let n = 0; n < N; n++) {
      const row = x.subarray(n * M, (n + 1) * M);
      const h = quantised(normed(row, norm, eps));
      const product = ({ q, step }: typeof h, weight: Float64Array, scales: Float64Array) =>
        scales.map((scale, o) => step * scale * packedDot(q, weight, o, scales.length));
      const upward = product(h, up, upScales);
      const inner = gate && gateScales ? product(h, gate, gateScales) : upward;
      const activated = new Float64Array(F);
      activationForward.reference({ x: inner, y: activated }, { N: F }, { kind });
      const a = gate ? activated.map((value, i) => value * upward[i]!) : activated;
      for (const [m, value] of product(quantised(a), down, downScales).entries()) row[m]! += value;
    }
  },
});

/** What the layer has besides its input. */
export interface Int8Layer {
  norm: Tensor;
  gate?: Tensor | undefined;
  up: Tensor;
  down: Tensor;
}

/** Adds the layer's result to x, float32 [...,M]. @throws ShapeError */
export function feedForwardInt8(x: Tensor, { norm, gate, up, down }: Int8Layer, kind: Activation, eps: number): void {
  const inputs = {
    norm,
    gate,
    gateScales: gate && scalesOf(gate),
    up,
    upScales: scalesOf(up),
    down,
    downScales: scalesOf(down),
    x: x.view(x.length / norm.length, norm.length),
  };
  run(feedForwardInt8Kernel, inputs, { scalars: { eps, kind: activations.indexOf(kind) } });
}
