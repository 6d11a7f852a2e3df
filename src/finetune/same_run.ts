/** Whether a folder's run was started with the settings of now: half a run of one and half of another is none. */
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { parse as parseYaml } from 'yaml';
import { settingsByKey } from '../train/run_directory.ts';
import { UsageError } from '../util/errors.ts';
import type { FinetuneConfig } from './config.ts';

/** What does not decide what comes out. */
const free = /^(name|runs_directory|train\.device|evaluate\.rows|log\..*)$/;
/** What a run that goes on may change besides: where it ends. */
export const itsEnd = /^(train\.epochs|evaluate\.patience)$/;

/**
 * @param remedy what to do otherwise, for the error's text
 * @param changeable settings that may differ besides those that decide nothing
 * @throws UsageError naming the first setting that differs
 */
export function checkSameRun(directory: string, config: FinetuneConfig, remedy: string, changeable?: RegExp): void {
  const path = join(directory, 'config.yaml');
  if (!existsSync(path)) return;
  const before = settingsByKey(parseYaml(readFileSync(path, 'utf8')));
  const now = settingsByKey(JSON.parse(JSON.stringify(config)));
  for (const key of new Set([...before.keys(), ...now.keys()]))
    if (before.get(key) !== now.get(key) && !free.test(key) && !changeable?.test(key))
      throw new UsageError(
        `${directory}: was started with ${key} ${before.get(key) ?? 'absent'}, now it is ${now.get(key) ?? 'absent'}; ${remedy}`,
      );
}
