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
import { gatedHalvesBackward, gatedHalvesForward } from './activation/gated_halves.ts';
import { adafactor, adafactorMoments } from './adafactor/adafactor.ts';
import { adamw, adamwCompact } from './adamw/adamw.ts';
import { addKernel } from './add/add.ts';
import { advanceKernel } from './advance/advance.ts';
import { attentionBackward, attentionForward } from './attention/attention.ts';
import { attentionPackedBackward, attentionPackedForward } from './attention/attention_packed.ts';
import {
  attentionDecode,
  attentionDecodeHalf,
  cacheAppend,
  cacheAppendHalf,
} from './attention_decode/attention_decode.ts';
import { beamStep } from './beam_step/beam_step.ts';
import { addBiasKernel } from './bias/bias.ts';
import { columnSums } from './column_sums/column_sums.ts';
import { crossEntropyKernel } from './cross_entropy/cross_entropy.ts';
import { dropoutKernel } from './dropout/dropout.ts';
import { emaLoad, emaUpdate } from './ema/ema.ts';
import { embeddingBackward, embeddingForward, embeddingHalf } from './embedding/embedding.ts';
import { feedForwardInt8Kernel } from './feed_forward_int8/feed_forward_int8.ts';
import { fireBiasBackward, fireBiasForward } from './fire_bias/fire_bias.ts';
import { globalNorm, parameterNorms } from './global_norm/global_norm.ts';
import { greedyRows, greedySteps } from './greedy_steps/greedy_steps.ts';
import { coarseCopy, likeliestKernel } from './likeliest/likeliest.ts';
import { linearBackwardInput, linearBackwardWeight, linearForward } from './linear/linear.ts';
import { linearAddKernel } from './linear/linear_add.ts';
import { linearGroupKernel } from './linear/linear_group.ts';
import { linearSeveralKernel } from './linear/linear_several.ts';
import { float8SumsKernel } from './linear_float8/float8_sums.ts';
import { gatedFloat8Kernel } from './linear_float8/gated_float8.ts';
import { linearFloat8AddKernel, linearFloat8Kernel } from './linear_float8/linear_float8.ts';
import { quantiseFloat8Kernel } from './linear_float8/quantise_float8.ts';
import { rmsNormFloat8Kernel } from './linear_float8/rms_norm_float8.ts';
import { linearGatedKernel } from './linear_gated/linear_gated.ts';
import { linearHalfKernel, linearRowsHalfKernel } from './linear_half/linear_half.ts';
import { linearInt8Kernel } from './linear_int8/linear_int8.ts';
import { linearInt8AddKernel } from './linear_int8/linear_int8_add.ts';
import { quantiseRowsKernel } from './linear_int8/quantise_rows.ts';
import { linearRowsKernel } from './linear_rows/linear_rows.ts';
import { logSoftmaxKernel } from './log_softmax/log_softmax.ts';
import { meanPoolBackward, meanPoolForward } from './mean_pool/mean_pool.ts';
import { muonMomentum, muonUpdate } from './muon/muon.ts';
import { pointwiseLossBackward, pointwiseLossForward } from './pointwise_loss/pointwise_loss.ts';
import { preferenceKernel } from './preference/preference.ts';
import { relativeBiasBackward, relativeBiasForward } from './relative_bias/relative_bias.ts';
import { addRmsNormBackward, addRmsNormForward } from './rms_norm/add_rms_norm.ts';
import { rmsNormBackward, rmsNormForward } from './rms_norm/rms_norm.ts';
import { wideRmsNormKernel } from './rms_norm/wide_rms_norm.ts';
import { ropeKernel } from './rope/rope.ts';
import { sampleTokenKernel } from './sample_token/sample_token.ts';
import { scaleKernel } from './scale/scale.ts';
import { selectRowsBackward } from './select_rows/select_rows.ts';
import { topKKernel } from './top_k/top_k.ts';
import { transposeKernel } from './transpose/transpose.ts';
import { widenKernel } from './widen/widen.ts';

/** Every kernel. */
export const kernels = [
  accumulate,
  attentionForward,
  attentionBackward,
  attentionPackedForward,
  attentionPackedBackward,
  attentionDecode,
  cacheAppend,
  attentionDecodeHalf,
  cacheAppendHalf,
  linearForward,
  linearGatedKernel,
  linearBackwardInput,
  linearBackwardWeight,
  linearAddKernel,
  linearGroupKernel,
  linearSeveralKernel,
  linearRowsKernel,
  linearHalfKernel,
  linearRowsHalfKernel,
  linearInt8Kernel,
  linearInt8AddKernel,
  feedForwardInt8Kernel,
  quantiseRowsKernel,
  linearFloat8Kernel,
  linearFloat8AddKernel,
  float8SumsKernel,
  quantiseFloat8Kernel,
  rmsNormFloat8Kernel,
  gatedFloat8Kernel,
  activationForward,
  activationBackward,
  gatedActivationForward,
  gatedActivationBackward,
  gatedHalvesForward,
  gatedHalvesBackward,
  addKernel,
  advanceKernel,
  beamStep,
  addBiasKernel,
  columnSums,
  crossEntropyKernel,
  dropoutKernel,
  embeddingForward,
  embeddingHalf,
  embeddingBackward,
  fireBiasForward,
  fireBiasBackward,
  relativeBiasForward,
  relativeBiasBackward,
  logSoftmaxKernel,
  meanPoolForward,
  meanPoolBackward,
  pointwiseLossForward,
  pointwiseLossBackward,
  preferenceKernel,
  rmsNormForward,
  rmsNormBackward,
  addRmsNormForward,
  addRmsNormBackward,
  wideRmsNormKernel,
  ropeKernel,
  sampleTokenKernel,
  scaleKernel,
  selectRowsBackward,
  topKKernel,
  coarseCopy,
  likeliestKernel,
  transposeKernel,
  widenKernel,
  adafactor,
  adafactorMoments,
  adamw,
  adamwCompact,
  globalNorm,
  parameterNorms,
  greedySteps,
  greedyRows,
  emaUpdate,
  emaLoad,
  muonMomentum,
  muonUpdate,
] as unknown as AnyKernel[];

/** `backward` gives d(arg) for each arg of `wrt` from the inputs, outputs and output gradients of `forward`. */
export interface GradientPair {
  forward: AnyKernel;
  backward: AnyKernel;
  wrt: readonly string[];
}

/** What the finite differences test. */
export const gradients = [
  { forward: linearForward, backward: linearBackwardInput, wrt: ['x'] },
  { forward: linearForward, backward: linearBackwardWeight, wrt: ['weight'] },
  { forward: activationForward, backward: activationBackward, wrt: ['x'] },
  { forward: gatedActivationForward, backward: gatedActivationBackward, wrt: ['gate', 'up'] },
  { forward: gatedHalvesForward, backward: gatedHalvesBackward, wrt: ['gateUp'] },
  { forward: embeddingForward, backward: embeddingBackward, wrt: ['table'] },
  { forward: meanPoolForward, backward: meanPoolBackward, wrt: ['x'] },
  { forward: pointwiseLossForward, backward: pointwiseLossBackward, wrt: ['prediction'] },
  { forward: rmsNormForward, backward: rmsNormBackward, wrt: ['x', 'weight'] },
  { forward: addRmsNormForward, backward: addRmsNormBackward, wrt: ['x', 'weight'] },
  {
    forward: fireBiasForward,
    backward: fireBiasBackward,
    wrt: ['hidden', 'hiddenBias', 'output', 'outputBias', 'c', 'multiplier'],
  },
  { forward: relativeBiasForward, backward: relativeBiasBackward, wrt: ['table'] },
  { forward: attentionForward, backward: attentionBackward, wrt: ['q', 'k', 'v', 'bias', 'dense'] },
  { forward: attentionPackedForward, backward: attentionPackedBackward, wrt: ['q', 'kv', 'bias', 'dense'] },
] as unknown as GradientPair[];
