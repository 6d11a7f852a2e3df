/** top_k, CUDA: how the kernel of top_k.cu is launched. */
import { RUN } from '../../backend/cuda/launch.ts';
import type { CudaPlan } from '../../backend/cuda/plan.ts';

const THREADS = 1024;
/** Few enough of as many groups of threads that their largest values bound the K-th well. */
const FEW = 96;

export const topKPlan: CudaPlan = ({ sizes: { N, V, K } }) => {
  const GROUP = K! <= FEW ? 8 : 1;
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
