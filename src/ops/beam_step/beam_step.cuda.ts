/** beam_step, CUDA: how the kernel of beam_step.cu is launched. */
import { BLOCK } from '../../backend/cuda/launch.ts';
import type { CudaPlan } from '../../backend/cuda/plan.ts';

export const beamStepPlan: CudaPlan = ({ sizes: { R, B, M, E } }) => ({
  launches: [
    {
      source: 'beam_step/beam_step.cu',
      entry: 'beam_step',
      defines: { BEAMS: R! / B!, EACH: M!, ENDS: E!, THREADS: BLOCK },
      grid: [B!],
      block: BLOCK,
    },
  ],
});
