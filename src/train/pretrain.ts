import { join } from 'node:path';
import { T5ForConditionalGeneration } from '../model/t5.ts';
import { createAverage, type WeightAverage } from '../optim/ema.ts';
import type { Tensor } from '../tensor/tensor.ts';
import { openTokenizer } from '../tokenizer/auto_tokenizer.ts';
import type { Batch } from '../util/batch.ts';
import { lockFolder } from '../util/lock.ts';
import { evaluationBatches, trainingBatches } from './batches.ts';
import { type Checkpoint, latestCheckpoint, pruneCheckpoints, saveCheckpoint } from './checkpoint.ts';
import type { TrainConfig } from './config.ts';
import { trainLoop } from './loop.ts';
import { type EvaluationRecord, MetricsFile } from './metrics.ts';
import { Progress } from './progress.ts';
import type { Reporter } from './reporter.ts';
import { checkSameRun, openRunDirectory, runDirectory } from './run_directory.ts';
import { copyTokenizer, restoreOptimizer, saveOptimizer, trainerOptions } from './run_parts.ts';
import { readTensors, writeTensors } from './tensor_file.ts';
import { Trainer } from './trainer.ts';

/** Measures a model on held-out batches. */
export type Evaluate = (
  model: T5ForConditionalGeneration,
  batches: readonly Batch[],
) => Promise<Pick<EvaluationRecord, 'nll' | 'accuracy' | 'tokens'>>;

/** What a run tells and asks its caller. */
export interface PretrainParts {
  reporter: Reporter;
  evaluate: Evaluate;
  /** Aborted to stop after the step in work, with a checkpoint. */
  signal: AbortSignal;
}

const averageFile = 'average.safetensors';

/**
 * Trains a model; goes on where an earlier process with the same settings stopped, with the same losses bit for bit.
 * @throws UsageError for settings that do not fit each other or the data, a run directory that another process uses, a
 *   full disk, a loss that is not finite; FormatError for damaged files
 */
export async function pretrain(config: TrainConfig, parts: PretrainParts): Promise<'finished' | 'interrupted'> {
  const { reporter, evaluate, signal } = parts;
  const closing: (() => unknown)[] = [() => reporter.done()];
  try {
    const run = runDirectory(config);
    const tokenizer = openTokenizer(config.tokenizer);
    closing.push(lockFolder(run.directory, 'choose another name=…'));
    checkSameRun(config);
    const checkpoint = await latestCheckpoint(run.checkpoints, (line) => reporter.note(line));
    const source = trainingBatches(config, tokenizer, checkpoint?.state.data);
    closing.push(() => source.close());
    const held = config.evaluate.every > 0 ? evaluationBatches(config, tokenizer) : [];
    const model = await openModel(config, checkpoint);
    closing.push(() => model.dispose());
    const trainer = new Trainer(model, trainerOptions(config, config.train.steps));
    closing.push(() => trainer.dispose());
    const average = config.train.ema === null ? undefined : createAverage(model.parameters, config.train.ema);
    closing.push(() => average?.dispose());
    if (checkpoint) {
      restoreOptimizer(checkpoint, trainer.optimizer);
      if (average) readTensors(join(checkpoint.folder, averageFile), averages(model, average));
      const { steps } = config.train;
      reporter.note(
        trainer.steps < steps
          ? `goes on after step ${trainer.steps} of ${steps} (${checkpoint.folder})`
          : `${checkpoint.folder} is the end of this run of ${steps} steps; with more train.steps= it goes on`,
      );
    }
    openRunDirectory(config);
    const metrics = new MetricsFile(run.metrics, checkpoint?.state.step ?? -1);
    closing.push(() => metrics.close());
    const progress = new Progress(trainer, checkpoint?.state.progress);

    const save = async (step: number): Promise<string> => {
      const state = { step, seed: config.train.seed, data: source.state(), progress: progress.state() };
      const folder = await saveCheckpoint(run.checkpoints, state, async (into) => {
        await model.save_pretrained(into);
        await saveOptimizer(into, trainer.optimizer);
        if (average) await writeTensors(join(into, averageFile), averages(model, average));
        copyTokenizer(config.tokenizer, into);
      });
      await pruneCheckpoints(run.checkpoints, config.checkpoint.keep, config.checkpoint.keep_every);
      return folder;
    };
    const measure = held.length > 0 ? () => evaluate(model, held) : undefined;
    return await trainLoop({
      config,
      trainer,
      source,
      progress,
      average,
      metrics,
      reporter,
      evaluate: measure,
      save,
      signal,
    });
  } finally {
    for (const close of closing.reverse()) await close();
  }
}

/** The model of the checkpoint that a run goes on from, or a new one. */
async function openModel(config: TrainConfig, checkpoint: Checkpoint | undefined): Promise<T5ForConditionalGeneration> {
  const { device, dtype, seed, activation_checkpointing } = config.train;
  const model = checkpoint
    ? await T5ForConditionalGeneration.from_pretrained(checkpoint.folder, { device, dtype })
    : T5ForConditionalGeneration.from_config(config.model, { device, dtype, seed });
  model.activation_checkpointing = activation_checkpointing;
  return model;
}

/** The moving average as parameters by name: average.safetensors can take the place of model.safetensors. */
function averages({ parameters }: T5ForConditionalGeneration, average: WeightAverage): Record<string, Tensor> {
  const { average: flat } = average.state();
  return Object.fromEntries(
    parameters.places.map(({ name, shape, offset, length }) => [name, flat!.part(offset, length).view(...shape)]),
  );
}
