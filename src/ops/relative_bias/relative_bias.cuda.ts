/** relative_bias, CUDA: how the kernels of relative_bias.cu are launched. */
import { blocksFor } from '../../backend/cuda/launch.ts';
import type { CudaPlan } from '../../backend/cuda/plan.ts';

const source = 'relative_bias/relative_bias.cu';
const THREADS = 128;
const defines = { THREADS };

export const relativeBiasForwardPlan: CudaPlan = ({ sizes: { P } }) => ({
  launches: [{ source, entry: 'relative_bias_forward', defines, grid: [blocksFor(P!, THREADS)], block: THREADS }],
});
export const relativeBiasBackwardPlan: CudaPlan = ({ sizes: { H } }) => ({
  launches: [{ source, entry: 'relative_bias_backward', defines, grid: [H!], block: THREADS }],
});
