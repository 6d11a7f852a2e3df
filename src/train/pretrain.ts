/** A pre-training run from its settings: puts the parts together, goes on from the last checkpoint, runs the loop. */
import { cpSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { T5ForConditionalGeneration } from '../model/t5.ts';
import { createAverage, type WeightAverage } from '../optim/ema.ts';
import type { OptimizerOptions } from '../optim/options.ts';
import { Tensor } from '../tensor/tensor.ts';
import { AutoTokenizer } from '../tokenizer/auto_tokenizer.ts';
import type { Batch } from '../util/batch.ts';
import { evaluationBatches, trainingBatches } from './batches.ts';
import { type Checkpoint, latestCheckpoint, pruneCheckpoints, saveCheckpoint } from './checkpoint.ts';
import type { TrainConfig } from './config.ts';
import { trainLoop } from './loop.ts';
import { type Console, type EvaluationRecord, MetricsFile } from './metrics.ts';
import { Progress } from './progress.ts';
import { openRunDirectory } from './run_directory.ts';
import { readTensors, writeTensors } from './tensor_file.ts';
import { Trainer, type TrainerOptions } from './trainer.ts';

/** Measures a model on held-out batches. */
export type Evaluate = (
  model: T5ForConditionalGeneration,
  batches: readonly Batch[],
) => Promise<Pick<EvaluationRecord, 'nll' | 'accuracy' | 'tokens'>>;

export interface PretrainParts {
  console: Console;
  evaluate: Evaluate;
  /** Aborted to stop after the step in work, with a checkpoint. */
  signal: AbortSignal;
}

const optimizerFile = 'optimizer.safetensors';
const averageFile = 'average.safetensors';

/**
 * Trains a model; goes on where an earlier process with the same settings stopped, with the same losses bit for bit.
 * @throws UsageError for settings that do not fit each other or the data, a full disk, a loss that is not finite;
 *   FormatError for damaged files
 */
export async function pretrain(config: TrainConfig, parts: PretrainParts): Promise<'finished' | 'interrupted'> {
  const { console: out, evaluate, signal } = parts;
  const tokenizer = await AutoTokenizer.from_pretrained(config.tokenizer);
  const run = await openRunDirectory(config);
  const checkpoint = await latestCheckpoint(run.checkpoints, (line) => out.line(line));
  const model = await openModel(config, checkpoint);
  const trainer = new Trainer(model, trainerOptions(config));
  const average = config.train.ema === null ? undefined : createAverage(model.parameters, config.train.ema);
  const source = trainingBatches(config, tokenizer, checkpoint?.state.data);
  const progress = new Progress(trainer, checkpoint?.state.progress);
  const metrics = new MetricsFile(run.metrics, checkpoint?.state.step ?? -1);
  try {
    if (checkpoint) {
      readTensors(join(checkpoint.folder, optimizerFile), trainer.optimizer.state());
      if (average) readTensors(join(checkpoint.folder, averageFile), averages(model, average));
      trainer.optimizer.steps = checkpoint.state.step;
      out.line(`goes on after step ${trainer.steps} of ${config.train.steps} (${checkpoint.folder})`);
    }
    const held = config.evaluate.every > 0 ? evaluationBatches(config, tokenizer) : [];
    const save = (step: number) =>
      saveCheckpoint(
        run.checkpoints,
        { step, seed: config.train.seed, data: source.state(), progress: progress.state() },
        async (folder) => {
          await model.save_pretrained(folder);
          await writeTensors(join(folder, optimizerFile), trainer.optimizer.state());
          if (average) await writeTensors(join(folder, averageFile), averages(model, average));
          copyTokenizer(config.tokenizer, folder);
        },
      ).then(async (folder) => {
        await pruneCheckpoints(run.checkpoints, config.checkpoint.keep, config.checkpoint.keep_every);
        return folder;
      });
    return await trainLoop({
      config,
      trainer,
      source,
      progress,
      average,
      metrics,
      console: out,
      evaluate: held.length > 0 ? () => evaluate(model, held) : undefined,
      save,
      signal,
    });
  } finally {
    out.done();
    metrics.close();
    await source.close();
    trainer.dispose();
    average?.dispose();
    model.dispose();
  }
}

/** The optimizer, schedule and clipping of a run. */
function trainerOptions({ optim, train }: TrainConfig): TrainerOptions {
  const { schedule, ...optimizer } = optim;
  return {
    optimizer: { ...optimizer, seed: train.seed } as OptimizerOptions,
    schedule: { ...schedule, total_steps: train.steps } as NonNullable<TrainerOptions['schedule']>,
    max_grad_norm: train.max_grad_norm,
    seed: train.seed,
  };
}

async function openModel(config: TrainConfig, checkpoint: Checkpoint | undefined): Promise<T5ForConditionalGeneration> {
  const { device, dtype, seed, activation_checkpointing } = config.train;
  const model = checkpoint
    ? await T5ForConditionalGeneration.from_pretrained(checkpoint.folder, { device, dtype })
    : T5ForConditionalGeneration.from_config(config.model, { device, dtype, seed });
  model.activation_checkpointing = activation_checkpointing;
  return model;
}

/** The moving average as parameters by name: average.safetensors can take the place of model.safetensors. */
function averages({ parameters, backend }: T5ForConditionalGeneration, average: WeightAverage): Record<string, Tensor> {
  const { average: flat } = average.state();
  return Object.fromEntries(
    parameters.places.map(({ name, shape, offset, length }) => [
      name,
      new Tensor(backend, flat!.memory.slice(offset, length), shape),
    ]),
  );
}

/** The files of a tokenizer beside a model, so that the checkpoint can be used alone. */
function copyTokenizer(from: string, to: string): void {
  for (const name of readdirSync(from))
    if (/^(tokenizer(_config)?|special_tokens_map|generation_config)\.json$/.test(name))
      cpSync(join(from, name), join(to, name));
}
