/**
 * A suite: every task fine-tuned from every model that is compared, with every seed. A cell is a run of its own in
 * OUTPUT/TASK/MODEL-seed-N; finished cells are read instead of run again, an interrupted one goes on where it was.
 */
import { existsSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { openDevice } from '../../backend/devices.ts';
import { expandSources } from '../../data/glob.ts';
import { FormatError, UsageError } from '../../util/errors.ts';
import type { FinetuneConfig } from '../config.ts';
import { finetune } from '../finetune.ts';
import type { FinetuneParts, FinetuneResult } from '../result.ts';
import { checkSameRun } from '../same_run.ts';
import type { Compared } from './checkpoints.ts';
import { configOfTask, type Suite, type SuiteTask } from './settings.ts';

/** What one cell came to. */
export interface SuiteRow {
  model: Compared;
  task: string;
  seed: number;
  metric: string;
  /** Of the test rows where there are some, else of the validation rows. */
  score: number;
  result: FinetuneResult;
  /** In joules, measured or estimated; null where nobody knows. */
  energy: number | null;
  energy_from: string;
  /** Of the run: scores.json, predictions.jsonl, metrics.jsonl, config.yaml. */
  directory: string;
}

interface Cell {
  model: Compared;
  task: SuiteTask;
  config: FinetuneConfig;
  directory: string;
}

/**
 * Runs what is not finished yet; `done` gets the rows after each cell. Undefined where the signal ended it.
 * @throws UsageError for settings, rows or cells of other settings; all settings and paths are checked before the first cell
 */
export async function runSuite(
  suite: Suite,
  models: readonly Compared[],
  output: string,
  parts: FinetuneParts,
  done: (rows: readonly SuiteRow[]) => void,
): Promise<SuiteRow[] | undefined> {
  const cells = cellsOf(suite, models, output);
  for (const { config, directory } of cells)
    checkSameRun(directory, config, 'name another --output, or remove the folder to run it again');
  const rows: SuiteRow[] = [];
  for (const [i, cell] of cells.entries()) {
    const { task, model, config, directory } = cell;
    let result = finished(directory);
    if (!result) {
      const where = `[${i + 1}/${cells.length} ${task.name} ${config.name}]`;
      resetPeak(config);
      const told = { note: (line: string) => parts.note(`${where} ${line}`) };
      const progress = (line: string) => parts.progress(`${where} ${line}`);
      result = await finetune(config, { ...told, progress, signal: parts.signal });
      if (!result) return undefined;
    }
    for (const weights of ['checkpoints', 'best']) rmSync(join(directory, weights), { recursive: true, force: true });
    rows.push({ ...rowOf(suite, cell, result), model });
    done(rows);
    if (parts.signal.aborted && i + 1 < cells.length) return undefined;
  }
  return rows;
}

function cellsOf(suite: Suite, models: readonly Compared[], output: string): Cell[] {
  const cells = models.flatMap((model) =>
    suite.tasks.flatMap((task) =>
      suite.seeds.map((seed) => {
        const runs_directory = join(output, task.name);
        const name = `${model.name}-seed-${seed}`;
        const from = { model: model.model, weights: model.weights };
        const config = configOfTask(suite, task, { ...from, runs_directory, name, seed });
        return { model, task, config, directory: join(runs_directory, name) };
      }),
    ),
  );
  for (const { config } of cells.slice(0, suite.tasks.length * suite.seeds.length))
    expandSources([config.data.train, config.data.validation ?? [], config.data.test ?? []].flat());
  return cells;
}

/** The result of a cell that is finished. @throws FormatError */
function finished(directory: string): FinetuneResult | undefined {
  const path = join(directory, 'scores.json');
  if (!existsSync(path)) return undefined;
  try {
    return JSON.parse(readFileSync(path, 'utf8')) as FinetuneResult;
  } catch (cause) {
    throw new FormatError(`${path}: not JSON: ${(cause as Error).message}; remove ${directory} to run it again`, {
      cause,
    });
  }
}

function rowOf({ watts }: Suite, { task, directory }: Cell, result: FinetuneResult): Omit<SuiteRow, 'model'> {
  const scores = result.test ?? result.validation;
  const metric = task.metric ?? result.metric;
  const score = scores?.[metric];
  if (score === undefined)
    throw new UsageError(
      scores
        ? `${task.name}: metric "${metric}" is no score of this task, expected one of ${Object.keys(scores).join(', ')}`
        : `${task.name}: has neither test nor validation rows, expected one of them to be scored on`,
    );
  const estimated = result.energy_joules === null && watts !== undefined;
  return {
    task: task.name,
    seed: result.seed,
    metric,
    score,
    result,
    energy: estimated ? watts * result.seconds : result.energy_joules,
    energy_from: estimated ? `estimated at ${watts} W` : result.energy_from,
    directory,
  };
}

/** Largest memory counts from now on, as far as the system lets it: a cell's is not that of the cells before. */
function resetPeak({ train }: FinetuneConfig): void {
  openDevice(train.device).resetPeak();
  try {
    writeFileSync('/proc/self/clear_refs', '5');
  } catch {
    // not Linux, or not allowed: the largest of the whole process is told
  }
}
