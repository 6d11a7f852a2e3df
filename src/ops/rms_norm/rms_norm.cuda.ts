/** rms_norm, add_rms_norm, wide_rms_norm, CUDA: how the kernels of rms_norm.cu and wide_rms_norm.cu are launched. */

import { BLOCK, blocksFor, WARP } from '../../backend/cuda/launch.ts';
import type { CudaPlan } from '../../backend/cuda/plan.ts';
import { bytesOf, type FloatType } from '../../backend/dtype.ts';

const source = 'rms_norm/rms_norm.cu';
/** Threads that go through rows on one multiprocessor: what registers allow. */
const FORWARD_THREADS = 1024;
const ADD_FORWARD_THREADS = 768;
const BACKWARD_THREADS = 512;
/** Pieces of a row in one thread's registers: vectors, and single elements. */
const VECTORS = 3;
const SINGLES = 16;
/** Blocks for a short batch. */
const FEW = 16;

/** How threads share rows of D elements. */
function layout(D: number, type: FloatType) {
  const vector = 16 / bytesOf[type];
  const EACH = D % vector === 0 ? vector : 1;
  const most = EACH === 1 ? SINGLES : VECTORS;
  let LANES = WARP;
  while (LANES < 1024 && LANES * EACH * most < D) LANES *= 2;
  const THREADS = Math.max(BLOCK, LANES);
  const blocks = (threads: number) => Math.max(1, Math.floor(threads / THREADS));
  return {
    ...{ WIDTH: D, EACH, LANES, THREADS },
    FORWARD_BLOCKS: blocks(FORWARD_THREADS),
    ADD_FORWARD_BLOCKS: blocks(ADD_FORWARD_THREADS),
    BACKWARD_BLOCKS: blocks(BACKWARD_THREADS),
  };
}

const forwardPlan =
  (entry: string, bound: 'FORWARD_BLOCKS' | 'ADD_FORWARD_BLOCKS'): CudaPlan =>
  ({ sizes: { N, D }, type, device }) => {
    const defines = { ...layout(D!, type), PARTS: 1 };
    const { THREADS, LANES } = defines;
    const grid = Math.min(blocksFor(N!, THREADS / LANES), device.multiprocessors * defines[bound]);
    return { launches: [{ source, entry, defines, grid: [grid], block: THREADS }] };
  };

const backwardPlan =
  (entry: string, given: readonly string[]): CudaPlan =>
  ({ sizes: { N, D }, type, device }) => {
    const shape = layout(D!, type);
    const { THREADS, LANES, BACKWARD_BLOCKS } = shape;
    // Few values, since each is compiled; blocks without rows add zeros.
    const PARTS = blocksFor(N!, THREADS / LANES) <= FEW ? FEW : device.multiprocessors * BACKWARD_BLOCKS;
    const common = { source, defines: { ...shape, PARTS } };
    return {
      workspace: { parts: 4 * PARTS * D! },
      launches: [
        {
          ...common,
          entry,
          grid: [PARTS],
          block: THREADS,
          arguments: [...given, 'weight', 'rstd', 'dx', 'normed', 'parts', 'N'],
        },
        {
          ...common,
          entry: 'rms_norm_dweight',
          grid: [blocksFor(D!, WARP)],
          block: 1024,
          arguments: ['parts', 'dweight', 'beta'],
        },
      ],
    };
  };

export const rmsNormForwardPlan = forwardPlan('rms_norm_forward', 'FORWARD_BLOCKS');
export const rmsNormBackwardPlan = backwardPlan('rms_norm_backward', ['dy', 'x']);
export const addRmsNormForwardPlan = forwardPlan('add_rms_norm_forward', 'ADD_FORWARD_BLOCKS');
export const addRmsNormBackwardPlan = backwardPlan('add_rms_norm_backward', ['dnormed', 'dsum', 'sum']);

export const wideRmsNormPlan: CudaPlan = ({ sizes: { N, D }, type }) => {
  const { WIDTH, EACH, LANES, THREADS } = layout(D!, type);
  return {
    launches: [
      {
        source: 'rms_norm/wide_rms_norm.cu',
        entry: 'wide_rms_norm',
        defines: { WIDTH, EACH, LANES, THREADS },
        grid: [blocksFor(N!, THREADS / LANES)],
        block: THREADS,
        arguments: ['x', 'weight', 'y', 'N', 'eps'],
      },
    ],
  };
};
