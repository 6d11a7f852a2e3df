/** fire_bias, CUDA: how the kernels of fire_bias.cu are launched. */
import { BLOCK, blocksFor, WARP } from '../../backend/cuda/launch.ts';
import type { CudaPlan } from '../../backend/cuda/plan.ts';

const source = 'fire_bias/fire_bias.cu';
/** Blocks that stride over tiles of positions: for few tiles, for many. */
const FEW = 16;
const MOST = 512;

export const fireBiasForwardPlan: CudaPlan = ({ sizes: { E, M, N, F } }) => ({
  launches: [
    {
      source,
      entry: 'fire_bias_forward',
      defines: { FEATURES: F!, KEYS: WARP, PARTS: 1 },
      grid: [blocksFor(E! * M! * N!, BLOCK)],
      block: BLOCK,
    },
  ],
});

export const fireBiasBackwardPlan: CudaPlan = ({ sizes, device }) => {
  const [E, H, M, N, F] = [sizes.E!, sizes.H!, sizes.M!, sizes.N!, sizes.F!];
  const size = 2 * F + H * F + H + 2;
  const sharedBytes = (keys: number) => 4 * (size + (H + 2 * F + 1) * (keys + 1));
  let KEYS = 64; // positions of a tile: as many as shared memory holds
  while (KEYS > 1 && sharedBytes(KEYS) > Math.min(device.sharedBytes, 64 << 10)) KEYS /= 2;
  const PARTS = E * M * Math.ceil(N / KEYS) <= FEW ? FEW : MOST; // each value is compiled
  const common = { source, defines: { FEATURES: F, KEYS, PARTS } };
  return {
    workspace: { parts: 4 * PARTS * size },
    launches: [
      {
        ...common,
        entry: 'fire_bias_backward',
        grid: [PARTS],
        block: BLOCK,
        sharedBytes: sharedBytes(KEYS),
        arguments: [
          ...['dbias', 'queryPositions', 'keyPositions', 'hidden', 'hiddenBias', 'output', 'c', 'multiplier'],
          ...['parts', 'E', 'H', 'M', 'N', 'L'],
        ],
      },
      {
        ...common,
        entry: 'fire_bias_total',
        grid: [blocksFor(size, WARP)],
        block: 1024,
        arguments: ['parts', 'dhidden', 'dhiddenBias', 'doutput', 'doutputBias', 'dc', 'dmultiplier', 'H'],
      },
    ],
  };
};
