/** preference, CUDA: how the kernel of preference.cu is launched. */
import { BLOCK } from '../../backend/cuda/launch.ts';
import type { CudaPlan } from '../../backend/cuda/plan.ts';

export const preferencePlan: CudaPlan = ({ sizes: { B } }) => ({
  launches: [{ source: 'preference/preference.cu', entry: 'preference', grid: [B!], block: BLOCK }],
});
