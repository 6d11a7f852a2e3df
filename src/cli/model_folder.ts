/** Where a model is: a folder with config.json, or a run directory, whose newest checkpoint is meant. */
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { newestCheckpoint } from '../train/checkpoint.ts';
import { UsageError } from '../util/errors.ts';

/** @throws UsageError if there is no model */
export function modelFolder(path: string): string {
  if (existsSync(join(path, 'config.json'))) return path;
  const newest = newestCheckpoint(join(path, 'checkpoints')) ?? newestCheckpoint(path);
  if (newest) return newest;
  const what = existsSync(path) ? 'has neither config.json nor checkpoints' : 'not found';
  throw new UsageError(`${path}: ${what}, expected a model's folder or a run's, such as runs/NAME`);
}
