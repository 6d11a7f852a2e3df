/** What a run begins with: its examples and its model. */
import { statSync } from 'node:fs';
import { resolveModel } from '../hub/hub.ts';
import type { T5Config } from '../model/config.ts';
import { configOf } from '../model/pretrained.ts';
import { loadAdapters } from '../model/weights.ts';
import { openTokenizer } from '../tokenizer/auto_tokenizer.ts';
import type { Tokenizer } from '../tokenizer/tokenizer.ts';
import { copyTokenizer } from '../train/run_parts.ts';
import { UsageError } from '../util/errors.ts';
import type { FinetuneConfig } from './config.ts';
import { headOf } from './head.ts';
import type { FinetuneParts } from './result.ts';
import { allRows, type Row } from './rows.ts';
import type { AnyTask, Cut, TaskModel } from './task.ts';
import { createTask } from './tasks.ts';
import { checkTokenizer, idsOf } from './tokenizer_fit.ts';

/** What a model of any task is to the loop. */
export type AnyTaskModel = TaskModel<{ tokens: number }>;

type Split = 'train' | 'validation' | 'test';

/** The examples of a task's splits, as only the task knows them; undefined for splits that the settings leave out. */
export interface Examples {
  train: unknown[];
  validation: unknown[] | undefined;
  test: unknown[] | undefined;
  /** The row of each test example, "path:line". */
  places: string[];
}

/** A tokenizer and how its files get into a folder. */
export interface TokenizerFiles {
  tokenizer: Tokenizer;
  copyTo(folder: string): void;
}

/** The tokenizer that the settings name, a folder, a file or a model of the hub; the model's own else. @throws UsageError */
export async function openFiles({ tokenizer: named, model }: FinetuneConfig): Promise<TokenizerFiles> {
  const place = await resolveModel(named ?? model, { files: 'tokenizer' });
  const tokenizer = openTokenizer(place);
  const copyTo = (folder: string) =>
    statSync(place).isDirectory() ? copyTokenizer(place, folder) : tokenizer.save(folder);
  return { tokenizer, copyTo };
}

/** The task and its examples. @throws UsageError for rows that do not fit, naming file and row */
export async function openTask(
  config: FinetuneConfig,
  tokenizer: Tokenizer,
  note: (line: string) => void,
): Promise<{ task: AnyTask; examples: Examples }> {
  const { max_length, max_target_length } = config.train;
  let cuts: Cut[] = [];
  const onCut = (cut: Cut) => void cuts.push(cut);
  const tools = { tokenizer, max_length, max_target_length, rows: config.evaluate.rows, head: headOf(config), onCut };
  const task = createTask(config, tools);
  let places: string[] = [];
  const of = async (split: Split) => {
    const rows = await splitRows(task, config, split);
    places = rows?.map(({ place }) => place) ?? [];
    const found = rows && task.examples(rows, split === 'train' ? 'train' : 'held-out');
    for (const limit of ['max_length', 'max_target_length'] as const) {
      const those = cuts.filter((cut) => cut.limit === limit);
      if (those.length > 0) note(cutLine(split, those, config.train[limit]));
    }
    cuts = [];
    return found;
  };
  const train = (await of('train'))!; // first: it says which labels there are
  const [validation, test] = [await of('validation'), await of('test')];
  return { task, examples: { train, validation, test, places } };
}

/** What is said about texts of a split that are cut. */
function cutLine(split: string, cuts: readonly Cut[], most: number): string {
  const [{ place, tokens, limit }] = cuts as [Cut];
  const many = cuts.length === 1 ? 'one text is' : `${cuts.length} texts are`;
  return (
    `${split}: ${many} longer than ${most} tokens and cut there, the first in ${place} (${tokens} tokens); ` +
    `raise train.${limit} to keep them whole`
  );
}

/** Does what a task does before training. False where the signal ended it. @throws UsageError, FormatError */
export async function prepared(
  task: AnyTask,
  { train, validation = [], test = [] }: Examples,
  { directory, config, parts, tokenizer }: PreparationParts,
): Promise<boolean> {
  if (!task.prepare) return true;
  const { device, dtype, seed } = config.train;
  return task.prepare({
    ...parts,
    directory,
    train,
    heldOut: [...validation, ...test],
    origin: JSON.stringify([config.model, config.weights, ...(config.weights === 'random' ? [seed] : [])]),
    options: { device, dtype },
    open: () => openModel(config, task, tokenizer, undefined),
  });
}

interface PreparationParts {
  directory: string;
  config: FinetuneConfig;
  parts: FinetuneParts;
  tokenizer: Tokenizer;
}

async function splitRows(
  task: AnyTask & { rows?: (sources: readonly string[], split: string, limit?: number) => Promise<Row[]> },
  { data }: FinetuneConfig,
  split: Split,
): Promise<Row[] | undefined> {
  const sources = data[split];
  if (!sources) return undefined;
  return task.rows ? task.rows(sources, split, data.limit) : allRows(sources, task.columns, data.limit);
}

/** The model to train: a checkpoint's, that of the settings, or a new one. @throws UsageError, FormatError */
export async function openModel(
  config: FinetuneConfig,
  task: AnyTask,
  tokenizer: Tokenizer,
  checkpoint: string | undefined,
): Promise<AnyTaskModel> {
  const { device, dtype, seed, label_smoothing, dropout, lora } = config.train;
  const settings = {
    ...task.configuration(),
    ...(label_smoothing !== undefined && { label_smoothing }),
    ...(dropout !== undefined && { dropout_rate: dropout, classifier_dropout: dropout }),
  };
  const written = configOf(config.model);
  checkTokenizer(config, written, tokenizer);
  if (checkpoint) checkLabels(checkpoint, settings);
  if (checkpoint && !lora) return task.model.from_pretrained(checkpoint, { device, dtype }) as Promise<AnyTaskModel>;
  if (config.weights === 'random')
    return task.model.from_config({ ...written, ...idsOf(tokenizer), ...settings } as never, {
      device,
      dtype,
      seed,
    }) as AnyTaskModel;
  const options = { device, dtype, seed, config: settings, lora, new_head: config.weights === 'backbone' };
  const model = (await task.model.from_pretrained(config.model, options)) as AnyTaskModel;
  if (checkpoint && lora) loadAdapters(checkpoint, model.parameters);
  return model;
}

/** @throws UsageError if the rows that a run goes on with have other classes than those that it began with */
function checkLabels(checkpoint: string, { id2label }: Partial<T5Config>): void {
  const [before, now] = [configOf(checkpoint).id2label, id2label].map((labels) =>
    Object.values(labels ?? {}).join(', '),
  );
  if (id2label && before !== now)
    throw new UsageError(
      `${checkpoint}: has the labels ${before}, the training rows ${now}; they have changed since the run began: choose another name=`,
    );
}
