/** A suite's file: which tasks there are, where their settings and their data lie. */
import { existsSync, readdirSync } from 'node:fs';
import { dirname, join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import * as z from 'zod';
import { count, positive, text } from '../../train/config.ts';
import { checkSettings, readSettings } from '../../train/config_file.ts';
import { UsageError } from '../../util/errors.ts';
import { suggestion } from '../../util/suggest.ts';
import { type FinetuneConfig, loadFinetuneConfig } from '../config.ts';

const sources = z.union([text.transform((path) => [path]), z.array(text).min(1)]);
const tree = z.record(z.string(), z.unknown());

const suiteTask = z.strictObject({
  name: z
    .string('a text')
    .regex(/^[\w.-]+$/, 'a name of letters, digits, ".", "_", "-"')
    .describe('column of the tables'),
  config: text.describe("the task's settings, from the folder of the suite's file on"),
  metric: text.optional().describe("score that the tables show; the run's own when left out"),
  train: sources.describe('rows, from the data folder on'),
  validation: sources.optional(),
  test: sources.optional(),
  settings: tree.prefault({}).describe("what differs from the task's settings"),
});

const suiteSettings = z.strictObject({
  name: z.string('a text').regex(/^[\w.-]+$/, 'a name of letters, digits, ".", "_", "-"'),
  title: text.optional().describe('above tables and plot'),
  data: text.default('data').describe('folder that the paths of rows start from'),
  only: z.array(text).min(1).optional().describe('names of the tasks to run; all when left out'),
  seeds: z.array(count).min(1).default([42]).describe('train.seed of the runs of each cell'),
  watts: positive.optional().describe('power that energy is estimated from where the machine does not tell it'),
  settings: tree.prefault({}).describe("what differs from every task's settings"),
  tasks: z.array(suiteTask).min(1, 'at least one task'),
});

/** A suite's settings, every default filled in. */
export type Suite = z.output<typeof suiteSettings> & { file: string };
export type SuiteTask = Suite['tasks'][number];

const included = fileURLToPath(new URL('../../../../configs/suites/', import.meta.url));

/** A suite by its name in configs/suites, or by its file, with settings replaced (`data=…`). @throws UsageError */
export function loadSuite(nameOrFile: string, overrides: readonly string[] = []): Suite {
  const own = join(included, `${nameOrFile}.yaml`);
  const file = /^[\w.-]+$/.test(nameOrFile) && existsSync(own) ? own : nameOrFile;
  if (!existsSync(file)) {
    const names = readdirSync(included).map((name) => name.replace('.yaml', ''));
    throw new UsageError(`${file}: not found, expected a suite's file or one of ${names.join(', ')}`);
  }
  const suite = checkSettings(suiteSettings, readSettings(file, overrides), file);
  const names = suite.tasks.map(({ name }) => name);
  const twice = names.find((name, i) => names.indexOf(name) < i);
  if (twice !== undefined) throw new UsageError(`${file}: two tasks are called "${twice}", expected different names`);
  const unknown = suite.only?.find((name) => !names.includes(name));
  if (unknown !== undefined) throw new UsageError(`${file}: only: no task "${unknown}", ${suggestion(unknown, names)}`);
  return { ...suite, tasks: suite.tasks.filter(({ name }) => suite.only?.includes(name) ?? true), file };
}

/** What a run of a task starts from and where it is kept. */
export interface RunOf {
  model: string;
  weights: FinetuneConfig['weights'];
  runs_directory: string;
  name: string;
  seed: number;
}

/** The settings of one run of a task. @throws UsageError naming the task's file */
export function configOfTask(suite: Suite, task: SuiteTask, { seed, ...run }: RunOf): FinetuneConfig {
  const path = resolve(dirname(suite.file), task.config);
  const rows = (given: string[] | undefined) => given?.map((source) => resolve(suite.data, source));
  const { train, validation, test } = task;
  const data = { train: rows(train), validation: rows(validation) ?? null, test: rows(test) ?? null };
  const config = loadFinetuneConfig(path, [
    ...flattened(suite.settings),
    ...flattened(task.settings),
    ...flattened({ ...run, data, train: { seed } }),
  ]);
  if (config.train.seeds)
    throw new UsageError(`${suite.file}: ${task.name} has train.seeds, expected them in the suite's own "seeds"`);
  return config;
}

/** Nested settings as `key.path=value`. */
function flattened(settings: object, prefix = ''): string[] {
  return Object.entries(settings).flatMap(([key, value]) =>
    typeof value === 'object' && value !== null && !Array.isArray(value)
      ? flattened(value, `${prefix}${key}.`)
      : `${prefix}${key}=${JSON.stringify(value)}`,
  );
}
