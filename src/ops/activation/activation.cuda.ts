/** activation, CUDA: how the kernels of activation.cu are launched. */
import { blocksFor, perElement, RUN } from '../../backend/cuda/launch.ts';
import type { CudaPlan } from '../../backend/cuda/plan.ts';

const source = 'activation/activation.cu';
export const activationForwardPlan = perElement(source, 'activation_forward');
export const activationBackwardPlan = perElement(source, 'activation_backward');
export const gatedActivationForwardPlan = perElement(source, 'gated_activation_forward');
export const gatedActivationBackwardPlan = perElement(source, 'gated_activation_backward');

/** Threads of a block: a row of most models is a multiple of what they take at once. */
const THREADS = 128;
const halves =
  (entry: string): CudaPlan =>
  ({ sizes: { N, F } }) => ({
    launches: [{ source, entry, grid: [N!, blocksFor(F!, RUN * THREADS)], block: THREADS }],
  });
export const gatedHalvesForwardPlan = halves('gated_halves_forward');
export const gatedHalvesBackwardPlan = halves('gated_halves_backward');
