/** The parts of an encoder's layers whose matrices are in float8, beside a float32 residual stream on a GPU. Inference only. */
import type { FloatType } from '../../backend/dtype.ts';
import { discard } from '../../tensor/scope.ts';
import type { Tensor } from '../../tensor/tensor.ts';
import { type Activation, activation } from '../activation/activation.ts';
import { float8Sums } from './float8_sums.ts';
import { gatedFloat8 } from './gated_float8.ts';
import { linearFloat8, linearFloat8Add } from './linear_float8.ts';
import { rmsNormFloat8 } from './rms_norm_float8.ts';

/** Projections [...,O] of a norm of x, float32 [...,D], by weights [O,D] or groups of them. @throws ShapeError */
export function projectionsFloat8(x: Tensor, norm: Tensor, weights: readonly Tensor[], eps: number): Tensor[] {
  const h = rmsNormFloat8(x, norm, eps);
  const projected = linearFloat8(h, weights, { type: norm.dtype as FloatType });
  discard(h, h.scales);
  return projected;
}

/** The matrices of a group [G,…]. */
function split(group: Tensor): Tensor[] {
  const [G, ...shape] = group.shape as [number, ...number[]];
  const length = group.length / G;
  return Array.from({ length: G }, (_, g) => group.part(g * length, length).view(...shape));
}

/** A feed-forward layer's parameters; `gateUp` [2,F,D] where gate and up lie together. */
interface Float8Layer {
  norm: Tensor;
  gate: Tensor | undefined;
  up: Tensor;
  down: Tensor;
  gateUp?: Tensor | undefined;
}

/** Adds the layer's result to x, float32 [...,D]. @throws ShapeError */
export function feedForwardFloat8(x: Tensor, p: Float8Layer, kind: Activation, eps: number): void {
  const h = rmsNormFloat8(x, p.norm, eps);
  const y = hidden(h, p, kind);
  discard(h, h.scales);
  linearFloat8Add(y, p.down, x);
  discard(y, y.scales);
}

function hidden(h: Tensor, { norm, gate, up, gateUp }: Float8Layer, kind: Activation): Tensor {
  const type = norm.dtype as FloatType;
  if (gateUp) {
    const sums = float8Sums(h, gateUp, type);
    const [gated, upward] = split(sums) as [Tensor, Tensor];
    const [gateScales, upScales] = split(gateUp.scales!) as [Tensor, Tensor];
    const y = gatedFloat8(gated, upward, kind, { xScales: h.scales!, gateScales, upScales });
    discard(sums);
    return y;
  }
  const [upward, gated] = linearFloat8(h, gate ? [up, gate] : [up], { type }) as [Tensor, Tensor?];
  const y = gated ? gatedFloat8(gated, upward, kind) : activation(upward, kind);
  discard(upward, gated);
  return y;
}
