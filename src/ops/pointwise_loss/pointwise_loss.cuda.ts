/** pointwise_loss, CUDA: how the kernels of pointwise_loss.cu are launched. */
import { perElement } from '../../backend/cuda/launch.ts';
import type { CudaPlan } from '../../backend/cuda/plan.ts';

const source = 'pointwise_loss/pointwise_loss.cu';

export const pointwiseLossForwardPlan: CudaPlan = () => ({
  launches: [{ source, entry: 'pointwise_loss_forward', grid: [1], block: 1024 }],
});
export const pointwiseLossBackwardPlan = perElement(source, 'pointwise_loss_backward');
