/** Where a model is: a folder with config.json, or a run directory, whose best or newest checkpoint is meant. */
import { existsSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { type HubOptions, resolveModel } from '../hub/hub.ts';
import { isHubName } from '../hub/names.ts';
import { hasAdapters } from '../model/adapter_files.ts';
import { FormatError, UsageError } from '../util/errors.ts';
import { isCheckpoint, newestCheckpoint, verifyCheckpoint } from './checkpoint.ts';

/** @throws UsageError if there is no model, FormatError if it is a checkpoint whose checksums are wrong */
export function modelFolder(path: string): string {
  const found = existsSync(path) ? statSync(path) : undefined;
  const isModel = (place: string) => existsSync(join(place, 'config.json')) || hasAdapters(place);
  const own = [path, join(path, 'best')].find(isModel);
  const folder = found?.isDirectory()
    ? (own ?? newestCheckpoint(join(path, 'checkpoints')) ?? newestCheckpoint(path))
    : undefined;
  if (!folder) {
    const what = !found
      ? 'not found'
      : found.isDirectory()
        ? 'has neither config.json nor checkpoints'
        : 'is no folder';
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
export async function findModel(place: string, options: HubOptions = {}): Promise<string> {
  return isHubName(place) ? resolveModel(place, options) : modelFolder(place);
}
