/** The training loop, from top to bottom: batch, step, average, record, evaluation, checkpoint. */
import { setImmediate } from 'node:timers/promises';
import type { BatchSource } from '../data/source.ts';
import type { WeightAverage } from '../optim/ema.ts';
import type { Batch } from '../util/batch.ts';
import { UsageError } from '../util/errors.ts';
import type { TrainConfig } from './config.ts';
import { duration, type EvaluationRecord, type MetricsFile } from './metrics.ts';
import type { Progress } from './progress.ts';
import type { Reporter } from './reporter.ts';
import type { StepResult, Trainer } from './trainer.ts';

/** What the loop puts together. */
export interface LoopParts {
  config: TrainConfig;
  trainer: Trainer;
  source: Pick<BatchSource, 'next'>;
  /** Sums since the last record, and since the start of the run. */
  progress: Progress;
  average: WeightAverage | undefined;
  metrics: MetricsFile;
  reporter: Reporter;
  /** Measures the held-out set with the model's present weights. */
  evaluate: (() => Promise<Pick<EvaluationRecord, 'nll' | 'accuracy' | 'tokens'>>) | undefined;
  /** Saves everything a later process needs to go on; returns the folder. */
  save: (step: number) => Promise<string>;
  /** Aborted when somebody wants the run to stop: the step in work is finished and saved. */
  signal: AbortSignal;
}

/**
 * Trains until `train.steps` or until the signal; says which.
 * @throws UsageError when the loss or the gradient is not finite; the weights of the last checkpoint stay as they are
 */
export async function trainLoop(parts: LoopParts): Promise<'finished' | 'interrupted'> {
  const { config, trainer, source, progress, average, metrics, reporter, signal } = parts;
  const { steps, accumulation } = config.train;
  const isDue = (step: number, every: number) => every > 0 && (step % every === 0 || step === steps);
  if (trainer.steps === 0 && config.evaluate.every > 0) await evaluate(parts);

  let waiting: (() => Promise<void>) | undefined;
  while (trainer.steps < steps) {
    const batches: Batch[] = [];
    for (let i = 0; i < accumulation; i++) batches.push(await source.next());
    const result = await trainer.launchOn(batches);
    const step = trainer.steps;
    average?.update(step);
    await waiting?.(); // of the step before, while the device works on this one
    waiting = async () => {
      waiting = undefined;
      const measured = await result();
      checkFinite(measured, step, parts);
      progress.add(measured, batches);
      reporter.progress(liveLine(progress, step, steps, measured.loss));
    };
    const { log, evaluate: evaluation, checkpoint } = config;
    if (signal.aborted || [log, evaluation, checkpoint].some(({ every }) => isDue(step, every))) await waiting();

    if (isDue(step, config.log.every)) {
      const record = await progress.record(step);
      metrics.append(record);
      reporter.train(record, steps);
    }
    if (isDue(step, config.evaluate.every)) await evaluate(parts);
    await setImmediate(); // lets signals in
    if (signal.aborted) await waiting?.();
    if (isDue(step, config.checkpoint.every) || signal.aborted) reporter.saved(await parts.save(step));
    if (signal.aborted && step < steps) return 'interrupted';
  }
  return 'finished';
}

async function evaluate({
  config,
  trainer,
  average,
  metrics,
  reporter,
  evaluate: measure,
  progress,
}: LoopParts): Promise<void> {
  if (!measure) return;
  reporter.progress(`step ${trainer.steps}/${config.train.steps}  evaluating`);
  const started = performance.now();
  const result = await (average ? average.evaluate(measure) : measure());
  const seconds = (performance.now() - started) / 1000;
  progress.pause(seconds);
  const record: EvaluationRecord = { kind: 'evaluation', step: trainer.steps, ...result, seconds };
  metrics.append(record);
  reporter.evaluation(record, config.train.steps);
}

function checkFinite(
  { loss, grad_norm: norm, learning_rate: rate }: StepResult,
  step: number,
  { config }: LoopParts,
): void {
  if (Number.isFinite(loss) && Number.isFinite(norm)) return;
  const clip = config.train.max_grad_norm;
  throw new UsageError(
    `train: step ${step}: the ${Number.isFinite(loss) ? `gradient norm is ${norm}` : `loss is ${loss}`} at learning rate ` +
      `${rate.toPrecision(3)}, expected a finite number; the last checkpoint is untouched. Run again under another name= ` +
      `with a lower optim.learning_rate, more optim.schedule.warmup_steps` +
      `${clip === null ? ', or train.max_grad_norm=1' : ''}${config.train.dtype === 'bfloat16' ? ', or train.dtype=float32' : ''}`,
  );
}

function liveLine(progress: Progress, step: number, steps: number, loss: number): string {
  const { secondsPerStep, tokensPerSecond } = progress.speed();
  return (
    `step ${step}/${steps}  loss ${loss.toFixed(3)}  ${Math.round(tokensPerSecond).toLocaleString('en')} tokens/s  ` +
    `${duration((steps - step) * secondsPerStep)} left`
  );
}
