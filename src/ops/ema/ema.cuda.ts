/** ema, CUDA: how the kernels of ema.cu are launched. */
import { perElement } from '../../backend/cuda/launch.ts';

export const emaUpdatePlan = perElement('ema/ema.cu', 'ema_update');
export const emaLoadPlan = perElement('ema/ema.cu', 'ema_load');
