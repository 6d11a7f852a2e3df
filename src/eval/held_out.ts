/** Held-out loss: cross entropy without z-loss and without randomness, mean over all label tokens. */
import type { T5ForConditionalGeneration } from '../model/t5.ts';
import { dispose } from '../tensor/scope.ts';
import type { Batch } from '../util/batch.ts';
import { UsageError } from '../util/errors.ts';

/** Means over the label tokens of held-out batches. */
export interface HeldOutLoss {
  /** Nats per label token. */
  nll: number;
  /** Share of label tokens that are the most likely one; padding does not count. */
  accuracy: number;
  /** Label tokens. */
  tokens: number;
}

/** @throws UsageError if the batches hold no label */
export async function heldOutLoss(model: T5ForConditionalGeneration, batches: readonly Batch[]): Promise<HeldOutLoss> {
  const sums = [0, 0, 0, 0];
  for (const batch of batches) {
    const stats = model.evaluateBatch(batch);
    (await stats.read()).forEach((value, i) => void (sums[i]! += value));
    dispose(stats);
  }
  const [nll, , correct, tokens] = sums as [number, number, number, number];
  if (tokens === 0)
    throw new UsageError('evaluation: the held-out batches have no label, expected at least one that is not -100');
  return { nll: nll / tokens, accuracy: correct / tokens, tokens };
}
