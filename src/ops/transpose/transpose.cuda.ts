/** transpose, CUDA: how the kernel of transpose.cu is launched. */
import { BLOCK, blocksFor, WARP } from '../../backend/cuda/launch.ts';
import type { CudaPlan } from '../../backend/cuda/plan.ts';

export const transposePlan: CudaPlan = ({ sizes: { N, M } }) => ({
  launches: [
    {
      source: 'transpose/transpose.cu',
      entry: 'transpose',
      grid: [blocksFor(N!, WARP), blocksFor(M!, WARP)],
      block: BLOCK,
    },
  ],
});
