/** What a fine-tuning run takes from its caller beside the settings, and what it gives. */
import type { Estimate } from '../util/statistics.ts';
import type { FinetuneConfig } from './config.ts';
import type { Cost } from './cost.ts';
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
  /** sacreBLEU's, of the scores of the test rows that have one. */
  signatures?: Record<string, string>;
  /** With train.seeds: what lies behind the means above. */
  over_seeds?: SeedScores;
}

/** Every score over the seeds. */
export interface SeedScores {
  seeds: readonly number[];
  validation: Record<string, Estimate> | undefined;
  test: Record<string, Estimate> | undefined;
}
