/** top_k, CUDA: how the kernel of top_k.cu is launched. */
import { RUN } from '../../backend/cuda/launch.ts';
import type { CudaPlan } from '../../backend/cuda/plan.ts';

const THREADS = 1024;

export const topKPlan: CudaPlan = ({ sizes: { N, V, K } }) => {
  let GROUP = 8; // threads whose largest value bounds the K-th: so many groups that the bound is good
  while (GROUP > 1 && THREADS / GROUP < 1.3 * K!) GROUP /= 2;
  const seenByGroup = GROUP * RUN * Math.ceil(V! / (THREADS * RUN));
  // Elements not below the bound: those of K groups; all where there are fewer groups.
  const CAPACITY = K! <= THREADS / GROUP ? Math.min(V!, K! * seenByGroup) : V!;
  return {
    workspace: { candidates: 8 * N! * CAPACITY },
    launches: [
      { source: 'top_k/top_k.cu', entry: 'top_k', defines: { THREADS, GROUP, CAPACITY }, grid: [N!], block: THREADS },
    ],
  };
};
