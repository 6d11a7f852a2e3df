/**
 * mean_pool: y[b,d] = mean of x[b,s,d] over the positions s with segments[b,s] >= 0, that is all but padding; 0 when
 * there is none. x [B,S,D], segments int32 [B,S], y [B,D]: one vector per text.
 */
import { defineKernel } from '../../backend/kernel.ts';
import { record, run } from '../../tensor/autograd.ts';
import type { Tensor } from '../../tensor/tensor.ts';
import { PADDING } from '../../util/batch.ts';
import { meanPoolBackwardPlan, meanPoolForwardPlan } from './mean_pool.cuda.ts';

const cases = [{ sizes: { B: 1, S: 1, D: 1 } }, { sizes: { B: 3, S: 7, D: 77 } }, { sizes: { B: 2, S: 40, D: 200 } }];
const segments = (random: () => number) => (random() < 0.4 ? PADDING : 0);

function valid(segments: Float64Array, b: number, S: number): number[] {
  return Array.from({ length: S }, (_, s) => b * S + s).filter((i) => segments[i]! >= 0);
}

export const meanPoolForward = defineKernel({
  name: 'mean_pool_forward',
  inputs: { x: '[B,S,D]', segments: 'i32[B,S]' },
  outputs: { y: '[B,D]' },
  cases,
  fill: { segments },
  reference({ x, segments, y }, { B, S, D }) {
    y.fill(0);
    for (let b = 0; b < B; b++) {
      const rows = valid(segments, b, S);
      for (const i of rows) for (let d = 0; d < D; d++) y[b * D + d]! += x[i * D + d]! / rows.length;
    }
  },
  cuda: meanPoolForwardPlan,
});

export const meanPoolBackward = defineKernel({
  name: 'mean_pool_backward',
  inputs: { dy: '[B,D]', segments: 'i32[B,S]' },
  outputs: { dx: '[B,S,D]' },
  cases,
  fill: { segments },
  reference({ dy, segments, dx }, { B, S, D }) {
    dx.fill(0);
    for (let b = 0; b < B; b++) {
      const rows = valid(segments, b, S);
      for (const i of rows) for (let d = 0; d < D; d++) dx[i * D + d] = dy[b * D + d]! / rows.length;
    }
  },
  cuda: meanPoolBackwardPlan,
});

/** Mean over the unpadded positions: x [B,S,D], segments int32 [B,S] -> [B,D]. @throws ShapeError */
export function meanPool(x: Tensor, segments: Tensor): Tensor {
  const { y } = run(meanPoolForward, { x, segments });
  record([y], [x], ([dy]) => [run(meanPoolBackward, { dy: dy!, segments }).dx]);
  return y;
}
