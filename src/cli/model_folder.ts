/** Where a model is: a folder with config.json, or a run directory, whose newest checkpoint is meant. */
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { isCheckpoint, newestCheckpoint, verifyCheckpoint } from '../train/checkpoint.ts';
import { FormatError, UsageError } from '../util/errors.ts';

/** @throws UsageError if there is no model, FormatError if it is a checkpoint whose checksums are wrong */
export function modelFolder(path: string): string {
  const isModel = existsSync(join(path, 'config.json'));
  const folder = isModel ? path : (newestCheckpoint(join(path, 'checkpoints')) ?? newestCheckpoint(path));
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
