/** log_softmax, CUDA: how the kernel of log_softmax.cu is launched. */
import type { CudaPlan } from '../../backend/cuda/plan.ts';

export const logSoftmaxPlan: CudaPlan = ({ sizes: { N } }) => ({
  launches: [{ source: 'log_softmax/log_softmax.cu', entry: 'log_softmax', grid: [N!], block: 1024 }],
});
