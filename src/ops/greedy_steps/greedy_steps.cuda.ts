/** greedy_steps, CUDA: how the kernels of greedy_steps.cu are launched. */

import { blocksFor, WARP } from '../../backend/cuda/launch.ts';
import type { CudaPlan } from '../../backend/cuda/plan.ts';
import { bytesOf, type FloatType } from '../../backend/dtype.ts';

const WARPS = 16;
/** Bytes that a warp asks for at once. */
const SLOT = 512;
/** Slots of a warp that are on the way: more hold no more of a device's bandwidth. */
const MOST_SLOTS = 24;
const FEWEST_SLOTS = 4;
/** Shared memory of a block on the devices that have least. */
const LEAST_SHARED = 101_376;
/** Rows at most of greedy_steps. */
export const FEW_ROWS = 8;
/** Rows of `places`. */
export const PLACES = 12;

/** The contract's letters that say what a step needs. */
export interface StepSizes {
  R: number;
  M: number;
  H: number;
  D: number;
  L: number;
  S: number;
  C: number;
  hidden: number;
}

/** Shared memory besides the feed's slots, in bytes. */
function ownBytes({ R, M, H, D, L, hidden }: Omit<StepSizes, 'S' | 'C'>, type: FloatType): number {
  const whole = (n: number) => Math.ceil((n * bytesOf[type]) / SLOT) * (SLOT / bytesOf[type]);
  const inputs = R * (whole(M) + whole(Math.max(H * D, hidden))) * (type === 'bf16' ? 2 : 4);
  const floats = R * WARPS + WARPS * (D + 2) + 3 * D + 2 * R * WARPS + 3 * R + 54 + WARPS * 53;
  return inputs + 4 * (floats + L * PLACES) + 64;
}

/** Whether the kernel does a model's greedy steps. */
export function canStep(sizes: StepSizes, type: FloatType): boolean {
  const { R, M, H, D, hidden } = sizes;
  const lanes = (D * bytesOf[type]) / 16;
  return (
    R <= FEW_ROWS &&
    [M, H * D, hidden].every((n) => n % 8 === 0) &&
    [1, 2, 4, 8, 16, 32].includes(lanes) &&
    ownBytes(sizes, type) + FEWEST_SLOTS * WARPS * SLOT <= LEAST_SHARED
  );
}

export const greedyStepsPlan: CudaPlan = ({ sizes, scalars, type, device }) => {
  const { R, M, H, D, L } = sizes as Record<'R' | 'M' | 'H' | 'D' | 'L', number>;
  const { hidden, gated, kind } = scalars as Record<'hidden' | 'gated' | 'kind', number>;
  const own = ownBytes({ R, M, H, D, L, hidden }, type);
  const DEPTH = Math.min(MOST_SLOTS, Math.floor((device.sharedBytes - own) / (WARPS * SLOT)));
  // Every block has rows of every residual sum, so that none falls behind the others.
  const blocks = Math.min(device.multiprocessors, M);
  const defines = {
    ...{ ROWS: R, WIDTH: M, HEADS: H, HEAD_WIDTH: D, HIDDEN: hidden, GATED: gated, ACTIVATION: kind },
    ...{ WARPS, DEPTH, BLOCKS: blocks },
  };
  const words = R * (6 * H * D + 3 * M + hidden + 2 * blocks);
  const common = { source: 'greedy_steps/greedy_steps.cu', defines };
  return {
    workspace: { mail: 8 * words },
    launches: [
      { ...common, entry: 'greedy_steps_clear', grid: [blocksFor(words, 256)], block: 256, arguments: ['mail'] },
      {
        ...common,
        entry: 'greedy_steps',
        grid: [blocks],
        block: WARPS * WARP,
        sharedBytes: own + DEPTH * WARPS * SLOT,
        together: true,
        arguments: [
          ...['parameters', 'places', 'embedding', 'head', 'norm', 'bias', 'crossKeys', 'crossValues', 'crossSegments'],
          ...['eos', 'token', 'ended', 'position', 'history', 'keys', 'values', 'mail', 'L', 'V', 'P', 'S', 'E', 'C'],
          ...['alpha', 'scale', 'eps', 'pad', 'steps'],
        ],
      },
    ],
  };
};
