/** accumulate, CUDA: how the kernel of accumulate.cu is launched. */
import { perElement } from '../backend/cuda/launch.ts';

export const accumulatePlan = perElement('accumulate.cu', 'accumulate');
