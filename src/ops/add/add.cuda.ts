/** add, CUDA: how the kernel of add.cu is launched. */
import { perElement } from '../../backend/cuda/launch.ts';

export const addPlan = perElement('add/add.cu', 'add');
