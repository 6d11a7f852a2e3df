/** select_rows, CUDA: how the kernel of select_rows.cu is launched. */
import { BLOCK, warpBlocks } from '../../backend/cuda/launch.ts';
import type { CudaPlan } from '../../backend/cuda/plan.ts';

export const selectRowsBackwardPlan: CudaPlan = ({ sizes: { N } }) => ({
  launches: [
    { source: 'select_rows/select_rows.cu', entry: 'select_rows_backward', grid: [warpBlocks(N!)], block: BLOCK },
  ],
});
