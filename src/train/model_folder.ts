/** Where a model is: a folder with config.json, or a run directory, whose best or newest checkpoint is meant. */
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { resolveModel } from '../hub/hub.ts';
import { isHubName } from '../hub/names.ts';
import { FormatError, UsageError } from '../util/errors.ts';
import { isCheckpoint, newestCheckpoint, verifyCheckpoint } from './checkpoint.ts';

/** @throws UsageError if there is no model, FormatError if it is a checkpoint whose checksums are wrong */
export function modelFolder(path: string): string {
  const own = [path, join(path, 'best')].find((place) => existsSync(join(place, 'config.json')));
  const folder = own ?? newestCheckpoint(join(path, 'checkpoints')) ?? newestCheckpoint(path);
  if (!folder) {
    const what = existsSync(path) ? 'has neither config.json nor checkpoints' : 'not found';
    throw new UsageError(`${path}: ${what}, expected a model's folder or a run's, such as runs/NAME`);
  }
  try {
    if (isCheckpoint(folder)) verifyCheckpoint(folder, 'model');
  } catch (error) {
    if (!(error instanceof FormatError)) throw error;
    throw new FormatError(`${error.message}; name another checkpoint, beside ${folder}`, { cause: error });
  }
  return folder;
}

/** The same, or a model of the hub by a name such as google/flan-t5-small. @throws UsageError, FormatError */
export async function findModel(place: string): Promise<string> {
  return isHubName(place) ? resolveModel(place) : modelFolder(place);
}
