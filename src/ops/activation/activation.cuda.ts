/** activation, CUDA: how the kernels of activation.cu are launched. */
import { perElement } from '../../backend/cuda/launch.ts';

const source = 'activation/activation.cu';
export const activationForwardPlan = perElement(source, 'activation_forward');
export const activationBackwardPlan = perElement(source, 'activation_backward');
export const gatedActivationForwardPlan = perElement(source, 'gated_activation_forward');
export const gatedActivationBackwardPlan = perElement(source, 'gated_activation_backward');
