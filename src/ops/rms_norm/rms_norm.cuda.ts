/** rms_norm, add_rms_norm, CUDA: how the kernels of rms_norm.cu are launched. */
import { BLOCK, blocksFor, RUN, strideBlocks, WARP } from '../../backend/cuda/launch.ts';
import type { CudaPlan } from '../../backend/cuda/plan.ts';

const source = 'rms_norm/rms_norm.cu';
/** Threads of a multiprocessor that go through rows; those of the backward pass hold more registers. */
const FORWARD_THREADS = 2048;
const BACKWARD_THREADS = 1024;
/** Blocks for a short batch. */
const FEW = 16;

/** How threads share rows of D elements. */
function layout(D: number) {
  const EACH = D % RUN === 0 ? RUN : 1;
  const pieces = EACH === 1 ? 16 : 4; // of a row that one thread holds in registers
  let LANES = WARP;
  while (LANES < 1024 && LANES * EACH * pieces < D) LANES *= 2;
  const block = LANES === WARP ? BLOCK : LANES;
  return { defines: { WIDTH: D, EACH, LANES }, block, rowsPerBlock: block / LANES };
}

const forwardPlan =
  (entry: string): CudaPlan =>
  ({ sizes: { N, D }, device }) => {
    const { defines, block, rowsPerBlock } = layout(D!);
    const grid = strideBlocks(blocksFor(N!, rowsPerBlock), device, Math.floor(FORWARD_THREADS / block));
    return { launches: [{ source, entry, defines: { ...defines, PARTS: 1 }, grid: [grid], block }] };
  };

const backwardPlan =
  (entry: string, given: readonly string[]): CudaPlan =>
  ({ sizes: { N, D }, device }) => {
    const { defines, block, rowsPerBlock } = layout(D!);
    // Few values, since each is compiled; blocks without rows add zeros.
    const work = blocksFor(N!, rowsPerBlock);
    const parts = work <= FEW ? FEW : device.multiprocessors * Math.floor(BACKWARD_THREADS / block);
    const common = { source, defines: { ...defines, PARTS: parts } };
    return {
      workspace: { parts: 4 * parts * D! },
      launches: [
        { ...common, entry, grid: [parts], block, arguments: [...given, 'weight', 'rstd', 'dx', 'parts', 'N'] },
        {
          ...common,
          entry: 'rms_norm_dweight',
          grid: [blocksFor(D!, WARP)],
          block: 1024,
          arguments: ['parts', 'dweight'],
        },
      ],
    };
  };

export const rmsNormForwardPlan = forwardPlan('rms_norm_forward');
export const rmsNormBackwardPlan = backwardPlan('rms_norm_backward', ['dy', 'x']);
export const addRmsNormForwardPlan = forwardPlan('add_rms_norm_forward');
export const addRmsNormBackwardPlan = backwardPlan('add_rms_norm_backward', ['dnormed', 'dsum', 'sum']);
