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
import { lockFolder } from '../util/lock.ts';
import type { FinetuneConfig } from './config.ts';
import type { FinetuneParts, FinetuneResult } from './result.ts';
import { runOnce } from './run.ts';
import { finetuneSeeds } from './seeds.ts';

/**
 * Fine-tunes a model and scores it. Undefined where the signal ended it before its last step.
 * @throws UsageError for settings, rows or labels that do not fit, naming file and row; FormatError for damaged files
 */
export async function finetune(config: FinetuneConfig, parts: FinetuneParts): Promise<FinetuneResult | undefined> {
  const directory = join(config.runs_directory, config.name);
  const unlock = lockFolder(directory, 'give this run another name=');
  try {
    const { seeds } = config.train;
    return await (seeds ? finetuneSeeds(directory, config, seeds, parts) : runOnce(directory, config, parts));
  } finally {
    unlock();
  }
}
