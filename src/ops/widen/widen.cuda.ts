/** widen, CUDA: how the kernel of widen.cu is launched. */
import { perElement } from '../../backend/cuda/launch.ts';

export const widenPlan = perElement('widen/widen.cu', 'widen');
