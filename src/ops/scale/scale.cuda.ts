/** scale, CUDA: how the kernels of scale.cu are launched. */
import { perElement } from '../../backend/cuda/launch.ts';

export const scalePlan = perElement('scale/scale.cu', 'scale');
