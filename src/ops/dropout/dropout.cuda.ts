/** dropout, CUDA: how the kernel of dropout.cu is launched. */
import { perElement } from '../../backend/cuda/launch.ts';

export const dropoutPlan = perElement('dropout/dropout.cu', 'dropout');
