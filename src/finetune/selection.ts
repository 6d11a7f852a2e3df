/** Which step of a run is its best, and whether it is worth going on. */
import { UsageError } from '../util/errors.ts';
import type { Scores } from './task.ts';

/** The best scores so far, and how many since were no better. */
export interface Best {
  step: number;
  scores: Scores | undefined;
  worse: number;
}

export const noneYet: Best = { step: 0, scores: undefined, worse: 0 };

/** Scores that count errors; of all others more is better. */
const lowerIsBetter = new Set(['mse']);

/** The best after these scores of a step. @throws UsageError if there is no score of this name */
export function bestOf(best: Best, step: number, scores: Scores, metric: string): Best {
  const value = scores[metric];
  if (value === undefined)
    throw new UsageError(
      `evaluate.metric: "${metric}" is no score of this task, expected one of ${Object.keys(scores).join(', ')}`,
    );
  const sign = lowerIsBetter.has(metric) ? -1 : 1;
  const better = !best.scores || sign * value > sign * best.scores[metric]!;
  return better ? { step, scores, worse: 0 } : { ...best, worse: best.worse + 1 };
}
