/** What pre-training and fine-tuning runs have in common: the trainer's options, and what lies beside a model's files. */
import { cpSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import type { Optimizer } from '../optim/optimizer.ts';
import type { OptimizerOptions } from '../optim/options.ts';
import type { Checkpoint } from './checkpoint.ts';
import type { TrainConfig } from './config.ts';
import { readTensors, writeTensors } from './tensor_file.ts';
import type { TrainerOptions } from './trainer.ts';

const optimizerFile = 'optimizer.safetensors';

/** A trainer's options from a run's settings and its number of updates. */
export function trainerOptions(
  { optim, train }: { optim: TrainConfig['optim']; train: Pick<TrainConfig['train'], 'seed' | 'max_grad_norm'> },
  steps: number,
): TrainerOptions {
  const { schedule, ...optimizer } = optim;
  return {
    optimizer: { ...optimizer, seed: train.seed } as OptimizerOptions,
    schedule: { ...schedule, total_steps: steps } as NonNullable<TrainerOptions['schedule']>,
    max_grad_norm: train.max_grad_norm,
    seed: train.seed,
  };
}

/** Writes an optimizer's state beside a model. @throws UsageError if the folder cannot be written */
export const saveOptimizer = (folder: string, optimizer: Optimizer): Promise<void> =>
  writeTensors(join(folder, optimizerFile), optimizer.state());

/** Puts an optimizer where a checkpoint left it. @throws FormatError if the state is another optimizer's */
export function restoreOptimizer({ folder, state }: Checkpoint, optimizer: Optimizer): void {
  readTensors(join(folder, optimizerFile), optimizer.state());
  optimizer.steps = state.step;
}

/** The files of a tokenizer beside a model, so that the checkpoint can be used alone. */
export function copyTokenizer(from: string, to: string): void {
  for (const name of readdirSync(from))
    if (/^((tokenizer(_config)?|special_tokens_map|added_tokens|generation_config)\.json|spiece\.model)$/.test(name))
      cpSync(join(from, name), join(to, name));
}
