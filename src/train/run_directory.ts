/** A run's directory: runs/NAME/{config.yaml, metrics.jsonl, checkpoints/}. */
import { existsSync, mkdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { parse as parseYaml } from 'yaml';
import { writeTextFile } from '../model/safetensors_write.ts';
import { UsageError } from '../util/errors.ts';
import type { TrainConfig } from './config.ts';
import { printTrainConfig } from './config_file.ts';

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
 * Makes a run's directory and writes its config.yaml; an existing run is gone on with.
 * @throws UsageError if it was started with settings that cannot be changed on the way
 */
export async function openRunDirectory(config: TrainConfig): Promise<RunDirectory> {
  const run = runDirectory(config);
  const path = join(run.directory, 'config.yaml');
  mkdirSync(run.checkpoints, { recursive: true });
  if (existsSync(path)) {
    const before = flat(parseYaml(readFileSync(path, 'utf8')));
    const now = flat(config);
    for (const key of new Set([...before.keys(), ...now.keys()]))
      if (before.get(key) !== now.get(key) && !changeable.test(key))
        throw new UsageError(
          `${run.directory}: the run was started with ${key} ${before.get(key) ?? 'absent'}, now it is ` +
            `${now.get(key) ?? 'absent'}; choose another name=…, or pass ${path} to go on with the run as it was`,
        );
  }
  await writeTextFile(path, printTrainConfig(config));
  return run;
}

/** Leaves of nested settings by dotted key, as JSON. */
function flat(value: unknown, prefix = '', into = new Map<string, string>()): Map<string, string> {
  if (typeof value === 'object' && value !== null && !Array.isArray(value))
    for (const [key, inner] of Object.entries(value)) flat(inner, prefix ? `${prefix}.${key}` : key, into);
  else into.set(prefix, JSON.stringify(value));
  return into;
}
