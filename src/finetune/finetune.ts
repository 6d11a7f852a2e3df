/**
 * A fine-tuning run from its settings: rows, steps, scores on the validation rows, the best step kept, the test rows at
 * the end. A run that was stopped goes on from its last checkpoint with the same bits.
 *
 *   runs/NAME/config.yaml, metrics.jsonl     as a pre-training run
 *   runs/NAME/checkpoints/step-…             the last state: goes on from here
 *   runs/NAME/best/                          the model of the best step, with its tokenizer
 *   runs/NAME/scores.json                    what came out, and what it cost
 *   runs/NAME/predictions.jsonl              every test row's prediction beside what was wanted
 */
import { join } from 'node:path';
import { setImmediate } from 'node:timers/promises';
import { lockFolder } from '../util/lock.ts';
import type { FinetuneConfig } from './config.ts';
import type { Cost } from './cost.ts';
import { openRun } from './run.ts';
import { finetuneSeeds, type SeedScores } from './seeds.ts';
import type { Scores } from './task.ts';

/** What a run tells and asks its caller. */
export interface FinetuneParts {
  /** One line about what happened. */
  note(line: string): void;
  /** What is going on now. */
  progress(line: string): void;
  /** Aborted to stop after the step in work, with a checkpoint. */
  signal: AbortSignal;
}

/** What scores.json holds. */
export interface FinetuneResult extends Cost {
  task: string;
  model: string;
  weights: FinetuneConfig['weights'];
  seed: number;
  metric: string;
  best_step: number;
  steps: number;
  validation: Scores | undefined;
  test: Scores | undefined;
  /** With train.seeds: what lies behind the means above. */
  over_seeds?: SeedScores;
}

/**
 * Fine-tunes a model and scores it. Undefined where the signal ended it before its last step.
 * @throws UsageError for settings, rows or labels that do not fit, naming file and row; FormatError for damaged files
 */
export async function finetune(config: FinetuneConfig, parts: FinetuneParts): Promise<FinetuneResult | undefined> {
  const directory = join(config.runs_directory, config.name);
  const unlock = lockFolder(directory, 'give this run another name=');
  try {
    const { seeds } = config.train;
    return await (seeds ? finetuneSeeds(directory, config, seeds, parts) : finetuneOnce(directory, config, parts));
  } finally {
    unlock();
  }
}

/** One run, in a folder that nobody else uses. */
export async function finetuneOnce(
  directory: string,
  config: FinetuneConfig,
  parts: FinetuneParts,
): Promise<FinetuneResult | undefined> {
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
