/** A run in one folder: its parts opened, one step, the scores on the validation rows, checkpoints, the result. */
import { join } from 'node:path';
import { setImmediate } from 'node:timers/promises';
import { stringify } from 'yaml';
import { inAdapterFile } from '../model/adapter_files.ts';
import { latestCheckpoint, newestCheckpoint, pruneCheckpoints, saveCheckpoint } from '../train/checkpoint.ts';
import { duration, MetricsFile } from '../train/metrics.ts';
import { restoreOptimizer, saveOptimizer, trainerOptions } from '../train/run_parts.ts';
import { Trainer } from '../train/trainer.ts';
import { UsageError } from '../util/errors.ts';
import { makeFolder, writeWhole } from '../util/new_file.ts';
import { recoverFolder, replaceFolder } from '../util/new_folder.ts';
import type { FinetuneConfig } from './config.ts';
import { CostMeter } from './cost.ts';
import { layerDecay, namedBy } from './frozen.ts';
import { BatchOrder } from './order.ts';
import type { FinetuneParts, FinetuneResult } from './result.ts';
import { checkSameRun, itsEnd } from './same_run.ts';
import { type Best, bestOf, noneYet } from './selection.ts';
import {
  type AnyTaskModel,
  type Examples,
  openFiles,
  openModel,
  openTask,
  prepared,
  type TokenizerFiles,
} from './setup.ts';
import type { AnyTask, Scores } from './task.ts';

interface RunParts {
  directory: string;
  config: FinetuneConfig;
  parts: FinetuneParts;
  files: TokenizerFiles;
  task: AnyTask;
  examples: Examples;
  model: AnyTaskModel;
}

/** Takes a run in a folder that nobody else uses to its end. Undefined where the signal ended it before that. */
export async function runOnce(
  directory: string,
  config: FinetuneConfig,
  parts: FinetuneParts,
): Promise<FinetuneResult | undefined> {
  const remedy = `choose another name=, or pass ${join(directory, 'config.yaml')} to go on as it was`;
  if (newestCheckpoint(join(directory, 'checkpoints'))) checkSameRun(directory, config, remedy, itsEnd);
  const run = await openRun(directory, config, parts);
  if (!run) return undefined;
  try {
    while (!run.done) {
      await run.step();
      await setImmediate(); // lets signals in
      if (run.isScored) await run.score();
      if (parts.signal.aborted && !run.done) {
        await run.save();
        return undefined;
      }
    }
  } finally {
    run.close();
  }
  return run.result();
}

/**
 * Opens a run where its last process left it, or at its beginning. Undefined where the signal ended what comes before
 * training. @throws UsageError, FormatError
 */
async function openRun(directory: string, config: FinetuneConfig, parts: FinetuneParts): Promise<Run | undefined> {
  const files = await openFiles(config);
  const { task, examples } = await openTask(config, files.tokenizer, parts.note);
  if (!(await prepared(task, examples, { directory, config, parts, tokenizer: files.tokenizer }))) return undefined;
  recoverFolder(join(directory, 'best'));
  const checkpoint = await latestCheckpoint(join(directory, 'checkpoints'), parts.note);
  const model = await openModel(config, task, files.tokenizer, checkpoint?.folder);
  try {
    return new Run({ directory, config, parts, files, task, examples, model }, checkpoint);
  } catch (error) {
    model.dispose();
    throw error;
  }
}

/** A run that is open: `step` until `done`, `score` after steps that `isScored`, `close`, `result`. */
class Run {
  /** Steps of the whole run. */
  readonly steps: number;
  private readonly own: RunParts;
  private readonly trainer: Trainer<AnyTaskModel>;
  private readonly order: BatchOrder;
  private readonly cost: CostMeter;
  private readonly metrics: MetricsFile;
  private readonly every: number;
  private best: Best = noneYet;
  private saved = -1;

  /** @throws UsageError for settings that do not fit the model */
  constructor(own: RunParts, checkpoint: Awaited<ReturnType<typeof latestCheckpoint>>) {
    const { directory, config, parts, task, examples, model } = own;
    const { epochs, rows, accumulation, seed } = config.train;
    this.own = own;
    this.order = new BatchOrder(
      examples.train.map(task.lengthOf),
      rows,
      seed,
      task.epoch && ((epoch) => task.epoch!(seed, epoch)),
    );
    const stepsOf = (passes: number) => (passes * this.order.perEpoch) / accumulation;
    this.steps = Math.max(1, Math.ceil(stepsOf(epochs)));
    this.every = Math.max(1, Math.round(stepsOf(config.evaluate.every)));
    this.trainer = new Trainer(model, { ...trainerOptions(config, this.steps), ...training(config, model) });
    if (checkpoint) {
      restoreOptimizer(checkpoint, this.trainer.optimizer);
      this.best = checkpoint.state.data as Best;
      this.saved = this.trainer.steps;
      parts.note(`goes on after step ${this.trainer.steps} (${checkpoint.folder})`);
    }
    const { watts } = config.log;
    this.cost = new CostMeter(model.parameters.backend, { state: checkpoint?.state.progress.window, watts });
    makeFolder(join(directory, 'checkpoints'));
    writeWhole(join(directory, 'config.yaml'), settingsText(config));
    this.metrics = new MetricsFile(join(directory, 'metrics.jsonl'), checkpoint?.state.step ?? -1);
  }

  /** Whether the last step is done, or patience is over. */
  get done(): boolean {
    const { patience } = this.own.config.evaluate;
    return this.trainer.steps >= this.steps || (patience > 0 && this.best.worse >= patience);
  }

  /** Whether the model is to be scored after the step that was taken last. */
  get isScored(): boolean {
    return this.trainer.steps % this.every === 0 || this.trainer.steps === this.steps;
  }

  /** One update. @throws UsageError if its loss is not finite */
  async step(): Promise<void> {
    const from = performance.now();
    const result = await this.trainer.stepOn(this.batches());
    const { loss, grad_norm, learning_rate } = result;
    const step = this.trainer.steps;
    if (!Number.isFinite(loss) || !Number.isFinite(grad_norm))
      throw new UsageError(
        `finetune: step ${step}: loss ${loss}, gradient norm ${grad_norm}, expected finite numbers; ` +
          'run again under another name= with a lower optim.learning_rate',
      );
    const seconds = (performance.now() - from) / 1000;
    const { note, progress } = this.own.parts;
    progress(`step ${step}/${this.steps}  loss ${loss.toFixed(3)}  ${duration((this.steps - step) * seconds)} left`);
    if (step % this.own.config.log.every !== 0 && step !== this.steps) return;
    const { peak_bytes } = this.cost.now();
    const measured = { loss, grad_norm, learning_rate, seconds_per_step: seconds, memory_bytes: peak_bytes };
    this.metrics.append({ kind: 'step', step, ...measured });
    note(`[train] step ${step} of ${this.steps}  loss ${loss.toFixed(3)}  ${seconds.toFixed(2)} s a step`);
  }

  private batches(): { tokens: number }[] {
    const { task, examples, model, config } = this.own;
    const { accumulation } = config.train;
    return Array.from({ length: accumulation }, (_, k) => {
      const indices = this.order.batch(this.trainer.steps * accumulation + k);
      const chosen = indices.map((i) => examples.train[i]);
      return task.batch(chosen, model.config) as { tokens: number };
    });
  }

  /** Scores the validation rows, keeps the model if it is the best one yet, saves a checkpoint. */
  async score(): Promise<void> {
    const { task, examples, model, config, parts, directory } = this.own;
    const step = this.trainer.steps;
    const { validation } = examples;
    if (!validation) this.best = { step, scores: undefined, worse: 0 };
    else {
      parts.progress(`step ${step}/${this.steps}  predicting ${validation.length} validation rows`);
      const predictions = await model.whileMerged(() => task.predict(model, validation));
      const scores = task.scores(validation, predictions);
      this.best = bestOf(this.best, step, scores, config.evaluate.metric ?? task.metric);
      this.metrics.append({ kind: 'score', step, scores, seconds: this.cost.seconds });
      parts.note(`[eval] step ${step} of ${this.steps}  ${scoresLine(scores)}`);
    }
    if (this.best.step === step) await replaceFolder(join(directory, 'best'), (into) => this.keep(into));
    await this.save();
  }

  /** Saves a checkpoint, unless there is one of this step. */
  async save(): Promise<void> {
    const { directory, config } = this.own;
    const { steps: step, optimizer } = this.trainer;
    if (step === this.saved) return;
    const checkpoints = join(directory, 'checkpoints');
    const progress = { label_tokens: 0, seconds: this.cost.seconds, window: this.cost.state() };
    const state = { step, seed: config.train.seed, data: this.best, progress };
    await saveCheckpoint(checkpoints, state, async (into) => {
      await this.keep(into);
      await saveOptimizer(into, optimizer);
    });
    await pruneCheckpoints(checkpoints, 1, 0);
    this.saved = step;
  }

  private async keep(folder: string): Promise<void> {
    await this.own.model.save_pretrained(folder);
    this.own.files.copyTo(folder);
  }

  /** Gives the memory back. */
  close(): void {
    this.metrics.close();
    this.trainer.dispose();
    this.own.model.dispose();
  }

  /** The result of a run that is done, its test rows scored by the best step's model. Writes scores.json. */
  async result(): Promise<FinetuneResult> {
    const { directory, config, task, examples } = this.own;
    const test = examples.test && (await this.testScores(examples.test));
    const result: FinetuneResult = {
      task: config.task.name,
      model: config.model,
      weights: config.weights,
      seed: config.train.seed,
      metric: config.evaluate.metric ?? task.metric,
      best_step: this.best.step,
      steps: this.trainer.steps,
      validation: this.best.scores,
      test,
      ...(examples.test && task.signatures && { signatures: task.signatures(examples.test) }),
      ...this.cost.now(),
    };
    writeWhole(join(directory, 'scores.json'), `${JSON.stringify(result, null, 2)}\n`);
    return result;
  }

  /** Scores of the best step's model on the test rows; writes predictions.jsonl. */
  private async testScores(examples: readonly unknown[]): Promise<Scores> {
    const { directory, task, config } = this.own;
    const { device, dtype } = config.train;
    const model = await task.model.from_pretrained(join(directory, 'best'), { device, dtype });
    try {
      const predictions = await task.predict(model, examples);
      const lines = predictions.map((prediction, i) => {
        const one = { row: this.own.examples.places[i], wanted: task.wanted(examples[i]), prediction };
        return JSON.stringify({ ...one, scores: task.scores([examples[i]], [prediction]) });
      });
      writeWhole(join(directory, 'predictions.jsonl'), `${lines.join('\n')}\n`);
      return task.scores(examples, predictions);
    } finally {
      model.dispose();
    }
  }
}

/** Which parameters are trained, and at which share of the learning rate. @throws UsageError */
function training({ train }: FinetuneConfig, { parameters, config }: AnyTaskModel) {
  const names = parameters.places.map(({ name }) => name);
  const isFrozen = namedBy(train.frozen, names);
  return {
    trainable: (name: string) => (!train.lora || inAdapterFile(name)) && !isFrozen(name),
    rate_scale: layerDecay(train.layer_decay, config, names),
  };
}

/** The settings as a file that can be run again. */
export const settingsText = (config: FinetuneConfig): string => stringify(config, { nullStr: 'null' });

/** Scores as a line: "f1 81.20  accuracy 95.03"; of many the first ones, the rest are in the files. */
export function scoresLine(scores: Scores): string {
  const all = Object.entries(scores).map(([name, value]) => `${name} ${value.toFixed(2)}`);
  return [...all.slice(0, SHOWN), ...(all.length > SHOWN ? [`and ${all.length - SHOWN} more`] : [])].join('  ');
}

const SHOWN = 12;
