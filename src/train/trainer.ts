/** One optimizer step: forward, backward, clipping, update. The training loop and library users share it. */

import type { T5Config } from '../model/config.ts';
import { batchOf, type Seq2SeqInputs } from '../model/inputs.ts';
import type { Random } from '../model/pass.ts';
import { T5ForConditionalGeneration } from '../model/t5.ts';
import { createOptimizer, type Optimizer } from '../optim/optimizer.ts';
import { type OptimizerOptions, resolveOptions } from '../optim/options.ts';
import { learningRate, type ScheduleOptions } from '../optim/schedule.ts';
import type { Parameters } from '../tensor/parameters.ts';
import { dispose } from '../tensor/scope.ts';
import type { Tensor } from '../tensor/tensor.ts';
import type { Batch } from '../util/batch.ts';
import { UsageError } from '../util/errors.ts';
import { RecordedStep, shapeOfStep } from './recorded_step.ts';

/** A model that can be trained, on batches B. */
export interface Trainable<B extends { tokens: number }> {
  readonly config: T5Config;
  readonly parameters: Parameters;
  /** As T5ForConditionalGeneration's: sums of NLL and, where the task has them, of z-loss and right tokens. */
  accumulateGradients(batch: B, options: { denominator: number; rng?: Random | undefined }): Tensor;
}

/** The batches that a model takes. */
type BatchOf<M> = M extends Trainable<infer B> ? B : never;

/** How a model is trained. */
export interface TrainerOptions {
  optimizer: OptimizerOptions;
  /** `constant` needs no total_steps, the others do. Constant without warm-up when left out. */
  schedule?: Omit<ScheduleOptions, 'total_steps'> & { total_steps?: number };
  /** The gradient's largest global L2 norm; null, or left out: no clipping. */
  max_grad_norm?: number | null;
  /** Of dropout. */
  seed?: number;
  /** Which parameters are trained, by name; all when left out. */
  trainable?: (name: string) => boolean;
  /** What the learning rate of a parameter is multiplied by, by its name; 1 when left out. */
  rate_scale?: (name: string) => number;
}

/** What one step measured, before its update. */
export interface StepResult {
  /** Cross entropy plus z-loss, mean over the step's label tokens, in nats. */
  loss: number;
  z_loss: number;
  /** Share of label tokens that were the most likely one. */
  accuracy: number;
  /** Label tokens. */
  tokens: number;
  /** Global L2 norm of the gradient, before clipping. */
  grad_norm: number;
  learning_rate: number;
}

/** A model with its optimizer; each step is one update. */
export class Trainer<M extends Trainable<never> = T5ForConditionalGeneration> {
  readonly model: M;
  readonly optimizer: Optimizer;
  private readonly options: TrainerOptions;
  private readonly schedule: ScheduleOptions;
  private readonly base: number;
  private lastShape: string | undefined;
  private recorded: RecordedStep | undefined;

  /** @throws UsageError for unknown or contradictory options */
  constructor(model: M, options: TrainerOptions) {
    const schedule = options.schedule ?? { name: 'constant' };
    if (schedule.total_steps === undefined && schedule.name !== 'constant')
      throw new UsageError(`Trainer: schedule "${schedule.name}" needs total_steps, the updates of the whole run`);
    this.model = model;
    this.options = options;
    this.schedule = { ...schedule, total_steps: schedule.total_steps ?? Number.POSITIVE_INFINITY };
    this.base = resolveOptions(options.optimizer).learning_rate;
    model.parameters.trainable(options.trainable);
    this.optimizer = createOptimizer(model.parameters, options.optimizer, options.rate_scale);
  }

  /** Completed updates. */
  get steps(): number {
    return this.optimizer.steps;
  }

  /**
   * One update from a batch: input_ids and attention_mask [B,S], labels [B,T] with -100 where there is no loss.
   * @throws UsageError for inputs that do not fit each other or the model
   */
  async step(this: Trainer, inputs: Seq2SeqInputs): Promise<StepResult> {
    return this.stepOn([batchOf(inputs, this.model.config)]);
  }

  /**
   * One update from micro-batches of the same shape: the loss is the mean over the label tokens of all of them.
   * A loss or gradient that is not finite changes nothing; the caller sees it in the result.
   */
  async stepOn(batches: readonly BatchOf<M>[]): Promise<StepResult> {
    const result = await this.launchOn(batches);
    return result();
  }

  /** As `stepOn`, done when the step is launched; what it returns waits for the result. The next step may come first. */
  async launchOn(batches: readonly BatchOf<M>[]): Promise<() => Promise<StepResult>> {
    const tokens = (batches as readonly { tokens: number }[]).reduce((sum, batch) => sum + batch.tokens, 0);
    if (tokens === 0) throw new UsageError('Trainer: no label in the batch, expected at least one that is not -100');
    const recorded = this.recordedFor(batches);
    if (recorded) {
      const rate = learningRate(this.schedule, this.base, this.optimizer.steps);
      const max_grad_norm = this.options.max_grad_norm ?? null;
      const reading = recorded.run(batches as readonly object[] as readonly Batch[], {
        factor: 1 / tokens,
        learning_rate: rate,
        max_grad_norm,
      });
      reading.catch(() => {}); // whoever asks for the result gets the error
      return async () => {
        const { sums, norm } = await reading;
        return resultOf(sums, { tokens, grad_norm: norm, learning_rate: rate });
      };
    }
    const result = await this.stepEagerly(batches, tokens);
    return async () => result;
  }

  /** A recording of steps of this shape, from the second one in a row; none where the device gains nothing by it. */
  private recordedFor(given: readonly BatchOf<M>[]): RecordedStep | undefined {
    const { model, optimizer } = this;
    if (!(model instanceof T5ForConditionalGeneration) || !model.backend.capture) return undefined;
    const batches = given as readonly object[] as readonly Batch[]; // what this model's accumulateGradients takes
    const shape = shapeOfStep(batches);
    if (shape !== this.lastShape) {
      this.recorded?.dispose();
      this.recorded = undefined;
      this.lastShape = shape;
      return undefined;
    }
    this.recorded ??= new RecordedStep(model, optimizer, { batches, seed: this.options.seed ?? 0 });
    return this.recorded;
  }

  private async stepEagerly(batches: readonly BatchOf<M>[], tokens: number): Promise<StepResult> {
    const { model, optimizer } = this;
    model.parameters.zeroGradients();
    const parts: Tensor[] = [];
    try {
      // Nothing is waited for in between: another step that begins meanwhile would write into this one's gradients.
      for (const [i, batch] of batches.entries()) {
        const rng = { seed: this.options.seed ?? 0, step: optimizer.steps * batches.length + i };
        parts.push((model as Trainable<BatchOf<M>>).accumulateGradients(batch, { denominator: tokens, rng }));
      }
      model.parameters.finishGradients();
      const rate = learningRate(this.schedule, this.base, optimizer.steps);
      optimizer.step({ learning_rate: rate, max_grad_norm: this.options.max_grad_norm ?? null });
      const [[norm], ...stats] = await Promise.all([optimizer.gradientNorm, ...parts].map((part) => part.read()));
      const sums = [0, 1, 2].map((j) => stats.reduce((sum, values) => sum + (values[j] ?? 0), 0));
      return resultOf(sums, { tokens, grad_norm: norm!, learning_rate: rate });
    } finally {
      dispose(...parts);
    }
  }

  /** Gives the optimizer's memory back; the model stays. */
  dispose(): void {
    this.recorded?.dispose();
    this.optimizer.dispose();
  }
}

/** Means from a step's sums of NLL, z-loss and right tokens. */
function resultOf(
  sums: readonly number[],
  rest: Pick<StepResult, 'tokens' | 'grad_norm' | 'learning_rate'>,
): StepResult {
  const [nll, z, correct] = sums.map((sum) => sum / rest.tokens) as [number, number, number];
  return { loss: nll + z, z_loss: z, accuracy: correct, ...rest };
}
