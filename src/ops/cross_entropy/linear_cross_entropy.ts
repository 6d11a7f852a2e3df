/**
 * The language model's last layer and its loss together: logits = alpha * x weight^T, then cross entropy, in chunks of
 * rows, so that the logits of a whole batch never exist. While a tape records, each chunk's gradient is taken at once:
 * its logits are rewritten in place and multiplied into dx and into the weight's gradient. The gradient of the loss itself
 * must therefore be 1, as it is when the loss is what is differentiated; fold other factors into `denominator`.
 */

import { bytesOf } from '../../backend/dtype.ts';
import { gradientSlot, isRecording, record, run } from '../../tensor/autograd.ts';
import { copyOf, copyTo } from '../../tensor/copy.ts';
import { dispose } from '../../tensor/scope.ts';
import { Tensor } from '../../tensor/tensor.ts';
import { ShapeError } from '../../util/errors.ts';
import { columnSums } from '../column_sums/column_sums.ts';
import { linearBackwardInput, linearBackwardWeight, linearForward } from '../linear/linear.ts';
import {
  asCrossEntropy,
  type CrossEntropy,
  type CrossEntropyOptions,
  crossEntropyKernel,
  lossScalars,
  TERMS,
} from './cross_entropy.ts';

/** The loss's options, and how the logits are made. */
export interface LinearCrossEntropyOptions extends CrossEntropyOptions {
  /** Factor on the logits, 1 when left out. */
  alpha?: number | undefined;
  /** f32[1]: a factor on the gradients that lies on the device; loss and stats do not have it. */
  factor?: Tensor | undefined;
  /** Rows per chunk; when left out, as many as fit the backend's scratchBytes. */
  rows?: number | undefined;
}

const rowsPerChunk = (x: Tensor, V: number): number =>
  Math.max(16, Math.floor(x.backend.scratchBytes / (V * bytesOf[x.dtype]) / 16) * 16);

/** Every row's terms f32 [N,5] of cross_entropy, without smoothing and gradients: x [...,D], weight [V,D], labels int32 [...]. */
export function linearCrossEntropyTerms(x: Tensor, weight: Tensor, labels: Tensor, alpha: number): Tensor {
  const [V, D] = weight.shape as [number, number];
  const N = labels.length;
  const all = Tensor.empty(x.backend, 'f32', [N, TERMS]);
  const step = rowsPerChunk(x, V);
  const scalars = { ...lossScalars({ denominator: 1 }), writeGradient: 0 };
  for (let start = 0; start < N; start += step) {
    const rows = Math.min(step, N - start);
    const chunk = x.part(start * D, rows * D).view(rows, D);
    const { y: logits } = run(linearForward, { x: chunk, weight }, { scalars: { alpha } });
    const { terms } = run(crossEntropyKernel, { logits, labels: labels.part(start, rows) }, { scalars });
    const place = all.part(start * TERMS, rows * TERMS);
    copyTo(terms!, place);
    dispose(logits, terms!);
  }
  return all;
}

/**
 * Cross entropy of alpha * x weight^T against labels: x [...,D], weight [V,D], a parameter, labels int32 [...].
 * @throws ShapeError
 */
export function linearCrossEntropy(
  x: Tensor,
  weight: Tensor,
  labels: Tensor,
  options: LinearCrossEntropyOptions,
): CrossEntropy {
  const [V, D] = weight.shape as [number, number];
  const N = labels.length;
  if (x.length !== N * D)
    throw new ShapeError(`linearCrossEntropy: x is [${x.shape}], expected [${labels.shape},${D}]`);
  if (weight.needsGrad && weight.grad?.dtype !== 'f32')
    throw new ShapeError(`linearCrossEntropy: weight [${weight.shape}] needs a gradient, expected a parameter`);
  const { alpha = 1, factor, weights } = options;
  const step = options.rows ?? rowsPerChunk(x, V);
  const withGradient = isRecording() && (x.needsGrad || weight.needsGrad);
  const scalars = { ...lossScalars(options), writeGradient: withGradient ? 1 : 0 };
  const sums = Tensor.empty(x.backend, 'f32', [TERMS]);
  const dx = withGradient && x.needsGrad ? Tensor.empty(x.backend, x.dtype, x.shape) : undefined;

  for (let start = 0; start < N; start += step) {
    const rows = Math.min(step, N - start);
    const part = (t: Tensor, width: number) => t.part(start * width, rows * width);
    const chunk = part(x, D).view(rows, D);
    const { y: logits } = run(linearForward, { x: chunk, weight }, { scalars: { alpha } });
    const list = part(labels, 1);
    const { terms } = run(
      crossEntropyKernel,
      { logits, labels: list, dloss: factor, weights: weights && part(weights, 1) },
      { scalars },
    );
    run(columnSums, { x: terms!, sums }, { scalars: { beta: start === 0 ? 0 : 1 } });
    if (dx) {
      const dchunk = part(dx, D).view(rows, D);
      run(linearBackwardInput, { dy: logits, weight, dx: dchunk }, { scalars: { alpha, beta: 0 } });
    }
    if (withGradient && weight.needsGrad) {
      const { grad, beta } = gradientSlot(weight);
      run(linearBackwardWeight, { dy: logits, x: chunk, dweight: grad }, { scalars: { alpha, beta } });
    }
    dispose(logits, terms!); // a tape would hold every chunk's
  }

  const result = asCrossEntropy(sums);
  record([result.loss], [x, weight], () => {
    if (!dx) return undefined;
    // The tape frees what this step allocated; what it hands on must be new.
    return [copyOf(dx)];
  });
  return result;
}
