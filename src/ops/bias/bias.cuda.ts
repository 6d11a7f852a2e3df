/** bias, CUDA: how the kernel of bias.cu is launched. */
import { perElement } from '../../backend/cuda/launch.ts';

export const addBiasPlan = perElement('bias/bias.cu', 'add_bias', 'N', 'D');
