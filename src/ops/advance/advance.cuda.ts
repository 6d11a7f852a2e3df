/** advance, CUDA: how the kernel of advance.cu is launched. */
import { BLOCK, blocksFor } from '../../backend/cuda/launch.ts';
import type { CudaPlan } from '../../backend/cuda/plan.ts';

export const advancePlan: CudaPlan = ({ sizes: { R } }) => ({
  launches: [{ source: 'advance/advance.cu', entry: 'advance', grid: [blocksFor(R!, BLOCK)], block: BLOCK }],
});
