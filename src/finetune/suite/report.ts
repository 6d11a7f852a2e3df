/** What a suite came to: results.csv with a row per run, results.md with tables, results.svg with score against tokens seen. */
import { join } from 'node:path';
import { duration } from '../../train/metrics.ts';
import { chartFile } from '../../util/chart.ts';
import { writeWhole } from '../../util/new_file.ts';
import { estimate } from '../../util/statistics.ts';
import type { Compared } from './checkpoints.ts';
import type { Suite } from './settings.ts';
import type { SuiteRow } from './suite.ts';

/** Writes the files of all rows there are. @throws UsageError if they cannot be written */
export function writeReport(suite: Suite, rows: readonly SuiteRow[], output: string): void {
  writeWhole(join(output, 'results.csv'), csv(rows));
  writeWhole(join(output, 'results.md'), markdown(suite, rows));
  const plot = svg(suite, rows);
  if (plot) writeWhole(join(output, 'results.svg'), plot);
}

const columns: Record<string, (row: SuiteRow) => string | number | null | undefined> = {
  model: ({ model }) => model.name,
  step: ({ model }) => model.step,
  tokens: ({ model }) => model.tokens,
  pretraining_seconds: ({ model }) => model.seconds,
  task: ({ task }) => task,
  seed: ({ seed }) => seed,
  metric: ({ metric }) => metric,
  score: ({ score }) => score,
  best_step: ({ result }) => result.best_step,
  steps: ({ result }) => result.steps,
  seconds: ({ result }) => result.seconds,
  energy_joules: ({ energy }) => energy,
  energy_from: ({ energy_from }) => energy_from,
  peak_bytes: ({ result }) => result.peak_bytes,
  folder: ({ directory }) => directory,
};

const field = (value: string | number | null | undefined): string => {
  const text = String(value ?? '');
  return /[",\n\r]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
};

/** One row a run, with a header line. */
export function csv(rows: readonly SuiteRow[]): string {
  const lines = rows.map((row) => Object.values(columns).map((of) => field(of(row))));
  return [Object.keys(columns), ...lines].map((line) => `${line.join(',')}\n`).join('');
}

const mean = (values: readonly number[]): number => values.reduce((a, b) => a + b, 0) / values.length;

/** The models in order, each with its rows. */
function byModel(rows: readonly SuiteRow[]): [Compared, SuiteRow[]][] {
  const groups = new Map<string, [Compared, SuiteRow[]]>();
  for (const row of rows) {
    if (!groups.has(row.model.name)) groups.set(row.model.name, [row.model, []]);
    groups.get(row.model.name)![1].push(row);
  }
  return [...groups.values()];
}

const ofTask = (rows: readonly SuiteRow[], task: string): SuiteRow[] => rows.filter((row) => row.task === task);

/** Scores of every model, their mean over the tasks, and what the runs cost. */
export function markdown(suite: Suite, rows: readonly SuiteRow[]): string {
  const names = suite.tasks.map(({ name }) => name);
  const metricOf = (name: string) => ofTask(rows, name)[0]?.metric ?? '';
  const score = (found: readonly SuiteRow[]): string => {
    if (found.length === 0) return '';
    const scores = found.map((row) => row.score);
    if (scores.length === 1) return scores[0]!.toFixed(2);
    const { mean, high } = estimate(scores);
    return `${mean.toFixed(2)} ± ${(high - mean).toFixed(2)}`;
  };
  const all = (own: readonly SuiteRow[]): string =>
    names.every((name) => ofTask(own, name).length > 0)
      ? mean(names.map((name) => mean(ofTask(own, name).map((row) => row.score)))).toFixed(2)
      : '';
  const lines = byModel(rows).map(([model, own]) => [
    model.name,
    model.tokens === undefined ? '' : model.tokens.toLocaleString('en'),
    ...names.map((name) => score(ofTask(own, name))),
    all(own),
    ...costs(own),
  ]);
  const head = ['model', 'tokens seen', ...names.map((name) => `${name}, ${metricOf(name)}`), 'mean'];
  const seeds = suite.seeds.length > 1 ? `; means of seeds ${suite.seeds.join(', ')} with 95 % intervals` : '';
  const energies = [...new Set(rows.map(({ energy_from }) => energy_from))].join('; ');
  return [
    `# ${suite.title ?? suite.name}`,
    '',
    `Tokens seen are label tokens of pre-training${seeds}. Time, energy and memory are those of fine-tuning and scoring, all`,
    `tasks together. Energy: ${energies}. One row a run: results.csv.`,
    '',
    table([[...head, 'time', 'energy', 'peak memory'], ...lines]),
    '',
  ].join('\n');
}

/** Time, energy and largest memory of rows together. */
function costs(rows: readonly SuiteRow[]): string[] {
  const energies = rows.map(({ energy }) => energy);
  const joules = energies.every((energy) => energy !== null) ? energies.reduce((a, b) => a! + b!, 0)! : undefined;
  return [
    duration(rows.reduce((sum, { result }) => sum + result.seconds, 0)),
    joules === undefined ? '' : `${(joules / 3600).toPrecision(3)} Wh`,
    `${(Math.max(...rows.map(({ result }) => result.peak_bytes)) / 1e9).toFixed(2)} GB`,
  ];
}

function table([head, ...lines]: string[][]): string {
  const line = (cells: readonly string[]) => `| ${cells.map((cell) => cell.replaceAll('|', '\\|')).join(' | ')} |`;
  const rule = `|${head!.map((_, i) => (i === 0 ? '---|' : '---:|')).join('')}`;
  return [line(head!), rule, ...lines.map(line)].join('\n');
}

/** Score against tokens seen, a line per task; undefined where no model says what it has seen. */
export function svg(suite: Suite, rows: readonly SuiteRow[]): string | undefined {
  const series = suite.tasks.flatMap(({ name }) => {
    const points = byModel(ofTask(rows, name))
      .filter(([model]) => model.tokens !== undefined)
      .map(([model, own]) => [model.tokens!, mean(own.map((row) => row.score))] as const)
      .sort(([a], [b]) => a - b);
    return points.length > 0 ? [{ label: name, dots: true, points }] : [];
  });
  if (series.length === 0) return undefined;
  return chartFile(series, { title: suite.title ?? suite.name, x: 'label tokens seen in pre-training', y: 'score' });
}
