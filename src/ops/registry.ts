/**
 * Every kernel, and which backward belongs to which forward. The parity and gradient tests, the prototypes, the
 * benchmark and docs/ops.md loop over these lists.
 */
import type { AnyKernel } from '../backend/kernel.ts';
import { accumulate } from '../tensor/accumulate.ts';
import {
  activationBackward,
  activationForward,
  gatedActivationBackward,
  gatedActivationForward,
} from './activation/activation.ts';
import { addKernel } from './add/add.ts';
import { attentionBackward, attentionForward } from './attention/attention.ts';
import { dropoutKernel } from './dropout/dropout.ts';
import { embeddingBackward, embeddingForward } from './embedding/embedding.ts';
import { linearBackwardInput, linearBackwardWeight, linearForward } from './linear/linear.ts';
import { relativeBiasBackward, relativeBiasForward } from './relative_bias/relative_bias.ts';
import { rmsNormBackward, rmsNormForward } from './rms_norm/rms_norm.ts';

export const kernels = [
  accumulate,
  attentionForward,
  attentionBackward,
  linearForward,
  linearBackwardInput,
  linearBackwardWeight,
  activationForward,
  activationBackward,
  gatedActivationForward,
  gatedActivationBackward,
  addKernel,
  dropoutKernel,
  embeddingForward,
  embeddingBackward,
  relativeBiasForward,
  relativeBiasBackward,
  rmsNormForward,
  rmsNormBackward,
] as unknown as AnyKernel[];

/** `backward` gives d(arg) for each arg of `wrt` from the inputs, outputs and output gradients of `forward`. */
export interface GradientPair {
  forward: AnyKernel;
  backward: AnyKernel;
  wrt: readonly string[];
}

export const gradients = [
  { forward: linearForward, backward: linearBackwardInput, wrt: ['x'] },
  { forward: linearForward, backward: linearBackwardWeight, wrt: ['weight'] },
  { forward: activationForward, backward: activationBackward, wrt: ['x'] },
  { forward: gatedActivationForward, backward: gatedActivationBackward, wrt: ['gate', 'up'] },
  { forward: embeddingForward, backward: embeddingBackward, wrt: ['table'] },
  { forward: rmsNormForward, backward: rmsNormBackward, wrt: ['x', 'weight'] },
  { forward: relativeBiasForward, backward: relativeBiasBackward, wrt: ['table'] },
  { forward: attentionForward, backward: attentionBackward, wrt: ['q', 'k', 'v', 'bias', 'dense'] },
] as unknown as GradientPair[];
