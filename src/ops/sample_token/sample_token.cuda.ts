/** sample_token, CUDA: how the kernel of sample_token.cu is launched. */
import type { CudaPlan } from '../../backend/cuda/plan.ts';

const THREADS = 1024;

export const sampleTokenPlan: CudaPlan = ({ sizes: { R } }) => ({
  launches: [
    {
      source: 'sample_token/sample_token.cu',
      entry: 'sample_token',
      defines: { THREADS },
      grid: [R!],
      block: THREADS,
    },
  ],
});
