/** mean_pool, CUDA: how the kernels of mean_pool.cu are launched. */
import { BLOCK, blocksFor, WARP } from '../../backend/cuda/launch.ts';
import type { CudaPlan } from '../../backend/cuda/plan.ts';

const source = 'mean_pool/mean_pool.cu';

export const meanPoolForwardPlan: CudaPlan = ({ sizes: { B, D } }) => ({
  launches: [{ source, entry: 'mean_pool_forward', grid: [B!, blocksFor(D!, WARP)], block: BLOCK }],
});
export const meanPoolBackwardPlan: CudaPlan = ({ sizes: { B, S } }) => ({
  launches: [{ source, entry: 'mean_pool_backward', grid: [blocksFor(S!, WARP), B!], block: BLOCK }],
});
