/** rope, CUDA: how the kernel of rope.cu is launched. */
import { BLOCK, blocksFor } from '../../backend/cuda/launch.ts';
import type { CudaPlan } from '../../backend/cuda/plan.ts';

const TEXTS = 8; // rows of the batch that share a block's angles

export const ropePlan: CudaPlan = ({ sizes: { B, S }, scalars: { rotated } }) => ({
  launches: [
    {
      source: 'rope/rope.cu',
      entry: 'rope',
      defines: { TEXTS },
      grid: [S!, blocksFor(B!, TEXTS)],
      block: BLOCK,
      sharedBytes: 4 * rotated!, // cosine and sine of each pair
    },
  ],
});
