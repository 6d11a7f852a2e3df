/** Exponential moving average of a model's parameters, to evaluate with. Formula: ops/ema. */
import { emaLoad, emaUpdate } from '../ops/ema/ema.ts';
import { run } from '../tensor/autograd.ts';
import { copyTo } from '../tensor/copy.ts';
import { type Parameters, zeros } from '../tensor/parameters.ts';
import { dispose } from '../tensor/scope.ts';
import type { Tensor } from '../tensor/tensor.ts';
import { UsageError } from '../util/errors.ts';

export interface WeightAverage {
  /**
   * After the optimizer's update number `steps`: average = d * average + (1 - d) * parameters, where d is the decay, less in
   * the first updates, (1 + steps) / (10 + steps), so that the initial values are soon forgotten.
   */
  update(steps: number): void;
  /** Runs f with the average in the parameters' place, which have their own values again afterwards, come what may. */
  evaluate<R>(f: () => R | Promise<R>): Promise<R>;
  /** Named tensors to checkpoint; restored by writing into them. */
  state(): Record<string, Tensor>;
  dispose(): void;
}

/** An average, float32, that starts at the present values. @throws UsageError unless 0 <= decay < 1 */
export function createAverage({ backend, values }: Parameters, decay: number): WeightAverage {
  if (!(decay >= 0 && decay < 1)) throw new UsageError(`average: decay is ${decay}, expected 0 to below 1`);
  const average = zeros(backend, 'f32', values.length);
  const blend = (rest: number) => void run(emaUpdate, { values, average }, { scalars: { rest } });
  blend(1);
  return {
    update: (steps) => blend(1 - Math.min(decay, (1 + steps) / (10 + steps))),
    async evaluate(f) {
      const { saved } = run(emaLoad, { average, values });
      try {
        return await f();
      } finally {
        copyTo(saved, values);
        dispose(saved);
      }
    },
    state: () => ({ average }),
    dispose: () => dispose(average),
  };
}
