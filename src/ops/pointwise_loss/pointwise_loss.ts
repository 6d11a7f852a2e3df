/**
 * pointwise_loss: the mean over all elements of a loss between a prediction x and a target t.
 *
 *   squared_error   (x - t)^2
 *   binary          log(1 + e^x) - t x: binary cross entropy, x in logits, t in [0,1]
 *
 * prediction [N], target float32 [N], loss float32 [1]; any shape flattened. Where there are weights, float32 [N], each
 * multiplies its element's loss; the mean is over the elements all the same.
 */
import { defineKernel } from '../../backend/kernel.ts';
import { record, run } from '../../tensor/autograd.ts';
import type { Tensor } from '../../tensor/tensor.ts';
import { pointwiseLossBackwardPlan, pointwiseLossForwardPlan } from './pointwise_loss.cuda.ts';

/** The kernels' `kind` scalar is the position in this list. */
const kinds = ['squared_error', 'binary'] as const;

const without: ['weights'] = ['weights'];
const cases = [
  { sizes: { N: 1 }, scalars: { kind: 0 }, absent: without },
  { sizes: { N: 103 }, scalars: { kind: 0 } },
  { sizes: { N: 103 }, scalars: { kind: 1 }, absent: without },
  { sizes: { N: 103 }, scalars: { kind: 1 } },
];
const target = (random: () => number) => random();
const prediction = (random: () => number) => 14 * random() - 7;

export const pointwiseLossForward = defineKernel({
  name: 'pointwise_loss_forward',
  inputs: { prediction: '[N]', target: 'f32[N]', weights: 'f32[N]?' },
  updates: {},
  outputs: { loss: 'f32[1]' },
  scalars: { kind: 'i32' },
  cases,
  fill: { target, prediction, weights: (random) => 3 * random() },
  reference({ prediction, target, weights, loss }, { N }, { kind }) {
    const of = (x: number, t: number) => (kind === 0 ? (x - t) ** 2 : Math.log1p(Math.exp(x)) - t * x);
    loss[0] = 0;
    for (let i = 0; i < N; i++) loss[0] += ((weights?.[i] ?? 1) * of(prediction[i]!, target[i]!)) / N;
  },
  cuda: pointwiseLossForwardPlan,
});

export const pointwiseLossBackward = defineKernel({
  name: 'pointwise_loss_backward',
  inputs: { dloss: 'f32[1]', prediction: '[N]', target: 'f32[N]', weights: 'f32[N]?' },
  updates: {},
  outputs: { dprediction: '[N]' },
  scalars: { kind: 'i32' },
  cases,
  fill: { target, prediction, weights: (random) => 3 * random() },
  reference({ dloss, prediction, target, weights, dprediction }, { N }, { kind }) {
    const slope = (x: number, t: number) => (kind === 0 ? 2 * (x - t) : 1 / (1 + Math.exp(-x)) - t);
    for (let i = 0; i < N; i++)
      dprediction[i] = (dloss[0]! / N) * (weights?.[i] ?? 1) * slope(prediction[i]!, target[i]!);
  },
  cuda: pointwiseLossBackwardPlan,
});

function pointwiseLoss(
  prediction: Tensor,
  target: Tensor,
  name: (typeof kinds)[number],
  elementWeights?: Tensor,
): Tensor {
  const weights = elementWeights?.view(elementWeights.length);
  const given = { prediction: prediction.view(prediction.length), target: target.view(target.length), weights };
  const scalars = { kind: kinds.indexOf(name) };
  const { loss } = run(pointwiseLossForward, given, { scalars });
  record([loss], [prediction], ([dloss]) => [
    run(pointwiseLossBackward, { dloss: dloss!, ...given }, { scalars }).dprediction,
  ]);
  return loss;
}

/** f32[1]: mean of (prediction - target)^2; target float32 of as many elements. @throws ShapeError */
export const meanSquaredError = (prediction: Tensor, target: Tensor): Tensor =>
  pointwiseLoss(prediction, target, 'squared_error');

/** f32[1]: mean binary cross entropy of logits against float32 targets in [0,1], by float32 weights. @throws ShapeError */
export const binaryCrossEntropyWithLogits = (logits: Tensor, target: Tensor, weights?: Tensor): Tensor =>
  pointwiseLoss(logits, target, 'binary', weights);
