/** What a suite compares: the checkpoints of runs, folders of models, a model with random weights. */
import { existsSync } from 'node:fs';
import { basename, dirname, join, resolve } from 'node:path';
import { checkpointFolders, isCheckpoint, verifyCheckpoint } from '../../train/checkpoint.ts';
import { findModel } from '../../train/model_folder.ts';
import { UsageError } from '../../util/errors.ts';
import type { FinetuneConfig } from '../config.ts';

/** One row of the tables. */
export interface Compared {
  /** Its name in tables and folders, unlike the others'. */
  name: string;
  /** Folder of the model. */
  model: string;
  weights: FinetuneConfig['weights'];
  /** Of pre-training: completed steps, label tokens, seconds; undefined where nobody wrote them down. */
  step?: number;
  tokens?: number;
  seconds?: number;
}

/** The word for a model of the first place's shape with random weights. */
const RANDOM = 'random';

/**
 * The models behind places: of a run all its checkpoints in order, of a fine-tuned run its best one, of a folder the model
 * in it, and `random`. @throws UsageError, FormatError
 */
export async function comparedModels(places: readonly string[]): Promise<Compared[]> {
  const named = places.filter((place) => place !== RANDOM);
  if (named.length === 0)
    throw new UsageError(
      `evaluate: ${places.length ? '"random" needs a model or a run whose shape it has' : 'expected a run such as runs/NAME'}`,
    );
  const groups = [];
  for (const place of named) groups.push(await modelsOf(place, named.length > 1 ? `${basename(resolve(place))}-` : ''));
  const models = groups.flat();
  const twice = models.find(({ name }, i) => models.findIndex((other) => other.name === name) < i);
  if (twice)
    throw new UsageError(`evaluate: two models are called "${twice.name}", expected folders of different names`);
  if (named.length === places.length) return models;
  const random: Compared = { name: RANDOM, model: models[0]!.model, weights: 'random', step: 0, tokens: 0, seconds: 0 };
  return [random, ...models];
}

async function modelsOf(place: string, prefix: string): Promise<Compared[]> {
  const run = [place, join(place, 'checkpoints')].find((folder) => checkpointFolders(folder).length > 0);
  const isFinetuned = existsSync(join(place, 'best', 'config.json'));
  if (run && !isFinetuned)
    return checkpointFolders(run).map((folder) => compared(folder, `${prefix}${basename(folder)}`));
  return [compared(await findModel(place), basename(resolve(place)))];
}

function compared(folder: string, name: string): Compared {
  const same = { name, model: folder, weights: 'checkpoint' as const };
  if (!isCheckpoint(folder)) return same;
  const { step, progress } = verifyCheckpoint(folder, 'model');
  return { ...same, step, tokens: progress.label_tokens, seconds: progress.seconds };
}

/** The name of what is compared, for a folder of its own. */
export const nameOfPlaces = (places: readonly string[]): string => {
  const first = resolve(places.find((place) => place !== RANDOM)!);
  return basename(first).startsWith('step-') ? basename(dirname(first)) : basename(first);
};
