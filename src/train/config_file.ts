/** Reads a run's settings from a YAML file and `key.path=value` overrides; unknown keys are errors. */
import { existsSync, readFileSync, statSync } from 'node:fs';
import { basename } from 'node:path';
import { parse as parseYaml, stringify } from 'yaml';
import * as z from 'zod';
import { type OptimizerOptions, optimizerDefaults, resolveOptions } from '../optim/options.ts';
import { scheduleDefaults } from '../optim/schedule.ts';
import { UsageError } from '../util/errors.ts';
import { suggestion } from '../util/suggest.ts';
import { objectiveDefaults, type TrainConfig, trainConfigSchema } from './config.ts';

/** Characters of a wrong value that an error repeats. */
const LONGEST_VALUE = 100;

type Tree = Record<string, unknown>;
const isTree = (value: unknown): value is Tree => typeof value === 'object' && value !== null && !Array.isArray(value);

/**
 * The settings of a file with overrides applied (`optim.learning_rate=2e-2`) and every default filled in. A run
 * without a name is called after its file.
 * @throws UsageError naming the file or override, the key, its value, and the nearest valid key
 */
export function loadTrainConfig(path: string, overrides: readonly string[] = []): TrainConfig {
  return checkTrainConfig(readSettings(path, overrides), path);
}

/** A file's settings with overrides applied, not checked yet; a run without a name is called after the file. @throws UsageError */
export function readSettings(path: string, overrides: readonly string[]): Tree {
  const tree = readYaml(path);
  tree.name ??= basename(path).replace(/\.ya?ml$/, '');
  for (const override of overrides) applyOverride(tree, override);
  return tree;
}

/** The map at the top of a YAML file. @param what it is, for the error's text @throws UsageError */
export function readYaml(path: string, what = "a run's settings"): Tree {
  const found = existsSync(path) ? statSync(path) : undefined;
  if (!found?.isFile())
    throw new UsageError(`${path}: ${found ? 'is no file' : 'not found'}, expected a YAML file with ${what}`);
  let tree: unknown;
  try {
    tree = parseYaml(readFileSync(path, 'utf8')) ?? {};
  } catch (cause) {
    throw new UsageError(`${path}: not YAML: ${firstLine(cause)}`, { cause });
  }
  if (!isTree(tree)) throw new UsageError(`${path}: expected a map of settings at its top`);
  return tree;
}

function applyOverride(tree: Tree, override: string): void {
  const at = override.indexOf('=');
  if (at <= 0) throw new UsageError(`"${override}": expected key.path=value, such as train.steps=1000`);
  const keys = override.slice(0, at).split('.');
  let place = tree;
  for (const key of keys.slice(0, -1)) {
    if (!isTree(place[key]) && !Array.isArray(place[key])) place[key] = {};
    place = place[key] as Tree;
  }
  try {
    place[keys.at(-1)!] = parseYaml(override.slice(at + 1)) as unknown;
  } catch (cause) {
    throw new UsageError(`"${override}": the value is not YAML: ${firstLine(cause)}`, { cause });
  }
}

/**
 * Checks settings and fills in the defaults; null leaves an optional setting out.
 * @param source where they came from, for the error's text
 * @throws UsageError
 */
export function checkTrainConfig(given: unknown, source: string): TrainConfig {
  const config = checkSettings(trainConfigSchema, given, source);
  return { ...config, data: completeData(config.data, source), optim: completeOptim(config.optim, source) };
}

/** Checks settings against a schema and fills in its defaults. @throws UsageError naming key, value and what is expected */
export function checkSettings<S extends z.ZodObject>(schema: S, given: unknown, source: string): z.output<S> {
  const tree = withoutNulls(schema, given);
  const { success, data, error } = schema.safeParse(tree);
  if (success) return data;
  const issue = error.issues[0]!;
  const path = issue.path.map(String);
  if (issue.code === 'unrecognized_keys') {
    const key = issue.keys[0]!;
    const full = [...path, key].join('.');
    throw new UsageError(`${source}: unknown key "${full}", ${suggestion(key, keysAt(schema, path))}`);
  }
  const value = path.reduce<unknown>((v, key) => (v as Tree | undefined)?.[key], tree);
  const expected = issue.message
    .replace(/^Invalid input: expected /, '')
    .replace(/^(\w+), received \w+$/, (_, kind: string) => kindNames[kind] ?? kind);
  const shown = JSON.stringify(value) ?? '';
  const short = shown.length > LONGEST_VALUE ? `${shown.slice(0, LONGEST_VALUE)}…` : shown;
  const what = value === undefined ? 'is missing' : `is ${short}`;
  throw new UsageError(`${source}: ${path.join('.')} ${what}, expected ${expected}`);
}

/** What people call the schema's kinds of values. */
const kindNames: Record<string, string> = {
  object: 'a map of settings',
  array: 'a list',
  string: 'a text',
  record: 'a map of settings',
};

/** The settings without the optional ones that are null, unless null says something of its own there. */
function withoutNulls(schema: z.core.$ZodType | undefined, value: unknown): unknown {
  if (schema instanceof z.ZodArray && Array.isArray(value))
    return value.map((element) => withoutNulls(schema.element, element));
  if (!(schema instanceof z.ZodObject) || !isTree(value)) return value;
  const fields = schema.shape as Record<string, z.ZodType | undefined>;
  const leftOut = (key: string, field = fields[key]): boolean =>
    value[key] === null && field instanceof z.ZodOptional && !field.safeParse(null).success;
  const kept = Object.keys(value).filter((key) => !leftOut(key));
  return Object.fromEntries(kept.map((key) => [key, withoutNulls(fields[key] && unwrap(fields[key]), value[key])]));
}

/** @throws UsageError for a setting of a section that the chosen objective, optimizer or schedule does not have */
function refuseForeign(section: string, chosen: string, given: object, known: readonly string[], source: string): void {
  const foreign = Object.keys(given).find((key) => !known.includes(key));
  if (foreign !== undefined)
    throw new UsageError(
      `${source}: ${section}.${foreign} means nothing to "${chosen}", remove it or set it to null; expected only ${known.join(', ')}`,
    );
}

/** Fills in what the objective means by default. @throws UsageError for a setting it does not have */
function completeData(data: TrainConfig['data'], source: string): TrainConfig['data'] {
  const { folder, objective, max_length, ...own } = data;
  const defaults = objectiveDefaults[objective](max_length);
  refuseForeign('data', objective, own, Object.keys(defaults), source);
  return { folder, objective, max_length, ...defaults, ...own };
}

/** Fills in what the named optimizer and schedule mean by default. @throws UsageError for a setting they do not have */
export function completeOptim({ schedule, ...optimizer }: TrainConfig['optim'], source: string): TrainConfig['optim'] {
  const defaults = scheduleDefaults[schedule.name];
  const known = ['name', ...Object.keys(defaults), ...(schedule.name === 'wsd' ? ['decay_steps'] : [])];
  refuseForeign('optim.schedule', schedule.name, schedule, known, source);
  const { seed: _derived, ...options } = optimizerDefaults[optimizer.name];
  refuseForeign('optim', optimizer.name, optimizer, Object.keys(options), source);
  try {
    const { seed: _fromTrain, ...resolved } = resolveOptions(optimizer as OptimizerOptions);
    return { ...(resolved as TrainConfig['optim']), schedule: { ...defaults, ...schedule } };
  } catch (cause) {
    throw new UsageError(`${source}: optim: ${(cause as Error).message}`, { cause });
  }
}

/** What is inside defaults and nullables. */
function unwrap(schema: z.core.$ZodType): z.core.$ZodType {
  const { innerType } = (schema as { def?: { innerType?: z.core.$ZodType } }).def ?? {};
  return innerType ? unwrap(innerType) : schema;
}

/** The valid keys at a path of keys and list positions. */
function keysAt(schema: z.ZodObject, path: readonly string[]): string[] {
  let at: z.core.$ZodType = schema;
  for (const key of path) {
    if (at instanceof z.ZodObject) at = unwrap(at.shape[key]);
    else if (at instanceof z.ZodArray) at = unwrap(at.element);
  }
  if (at instanceof z.ZodDiscriminatedUnion)
    return [...new Set(at.options.flatMap((option) => Object.keys((option as z.ZodObject).shape)))];
  return at instanceof z.ZodObject ? Object.keys(at.shape) : [];
}

/** A setting as help shows it. */
export interface Setting {
  /** Dotted. */
  key: string;
  doc: string;
  /** The values it may have, where there are few. */
  choices: readonly string[] | undefined;
  default: unknown;
}

/** Every setting of a schema, in its order. */
export function settings(schema: z.ZodObject = trainConfigSchema): Setting[] {
  return Object.entries(schema.shape as Record<string, z.ZodType>).flatMap(([name, field]) => {
    const section = unwrap(field);
    if (section instanceof z.ZodObject)
      return settings(section).map((setting) => ({ ...setting, key: `${name}.${setting.key}` }));
    if (section instanceof z.ZodDiscriminatedUnion) return alternatives(name, section.options as z.ZodObject[]);
    const fallback = field.safeParse(undefined);
    const choices = section instanceof z.ZodEnum ? section.options.map(String) : undefined;
    return [
      { key: name, doc: field.description ?? '', choices, default: fallback.success ? fallback.data : undefined },
    ];
  });
}

/** The settings of a section that is one of several kinds, told apart by its `name`. */
function alternatives(section: string, options: readonly z.ZodObject[]): Setting[] {
  const kinds = options.map((option) => option.shape as { name: z.ZodLiteral } & Record<string, z.ZodType>);
  const choices = kinds.map(({ name }) => String(name.value));
  return [
    { key: `${section}.name`, doc: 'decides which of the following there are', choices, default: undefined },
    ...kinds.flatMap(({ name, ...fields }) =>
      settings(z.strictObject(fields)).map((setting) => ({
        ...setting,
        key: `${section}.${setting.key}`,
        doc: `${name.value}: ${setting.doc}`,
      })),
    ),
  ];
}

/** The settings as a YAML file that `loadTrainConfig` reads back unchanged. */
export function printTrainConfig(config: TrainConfig): string {
  return stringify(config, { nullStr: 'null', flowCollectionPadding: false });
}

const firstLine = (error: unknown): string => (error as Error).message.split('\n')[0]!.replace(/:$/, '');
