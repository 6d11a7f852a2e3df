/** A run's directory: runs/NAME/{config.yaml, metrics.jsonl, checkpoints/}. */
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { parse as parseYaml } from 'yaml';
import { UsageError } from '../util/errors.ts';
import { makeFolder, writeWhole } from '../util/new_file.ts';
import { newestCheckpoint } from './checkpoint.ts';
import type { TrainConfig } from './config.ts';
import { printTrainConfig } from './config_file.ts';

/** A run's paths. */
export interface RunDirectory {
  directory: string;
  metrics: string;
  checkpoints: string;
}

/** The paths of a run. */
export function runDirectory({ runs_directory, name }: Pick<TrainConfig, 'runs_directory' | 'name'>): RunDirectory {
  const directory = join(runs_directory, name);
  return { directory, metrics: join(directory, 'metrics.jsonl'), checkpoints: join(directory, 'checkpoints') };
}

/** What a run that goes on may change: nothing that decides what the next step computes, except its length. */
const changeable =
  /^(train\.steps|train\.device|train\.activation_checkpointing|evaluate\.|checkpoint\.|log\.|runs_directory)/;

/**
 * Compares settings with those of the checkpoints that a run's directory holds, if any.
 * @throws UsageError if the run was started with settings that cannot be changed on the way
 */
export function checkSameRun(config: TrainConfig): void {
  const { directory, checkpoints } = runDirectory(config);
  const path = configFile(directory);
  if (!existsSync(path) || !newestCheckpoint(checkpoints)) return;
  const before = settingsByKey(parseYaml(readFileSync(path, 'utf8')));
  const now = settingsByKey(config);
  for (const key of new Set([...before.keys(), ...now.keys()]))
    if (before.get(key) !== now.get(key) && !changeable.test(key))
      throw new UsageError(
        `${directory}: the run was started with ${key} ${before.get(key) ?? 'absent'}, now it is ` +
          `${now.get(key) ?? 'absent'}; choose another name=…, or pass ${path} to go on with the run as it was`,
      );
}

/** Makes a run's directory with its config.yaml. @throws UsageError if it cannot be written */
export function openRunDirectory(config: TrainConfig): void {
  const { directory, checkpoints } = runDirectory(config);
  makeFolder(checkpoints);
  writeWhole(configFile(directory), printTrainConfig(config));
}

const configFile = (directory: string) => join(directory, 'config.yaml');

/** Nested settings by dotted key, each value as JSON. */
export function settingsByKey(value: unknown, prefix = '', into = new Map<string, string>()): Map<string, string> {
  if (typeof value === 'object' && value !== null && !Array.isArray(value))
    for (const [key, inner] of Object.entries(value)) settingsByKey(inner, prefix ? `${prefix}.${key}` : key, into);
  else into.set(prefix, JSON.stringify(value));
  return into;
}
