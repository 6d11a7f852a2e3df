/**
 * The same run with several seeds, since one says little: each in a folder of its own, then mean, standard deviation and
 * interval of every score. Runs that are finished are not run again.
 *
 *   runs/NAME/seed-S/…        a run, as finetune.ts has it
 *   runs/NAME/scores.json     what came out of all, beside config.yaml
 */
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { writeWhole } from '../util/new_file.ts';
import { type Estimate, estimate } from '../util/statistics.ts';
import type { FinetuneConfig } from './config.ts';
import type { FinetuneParts, FinetuneResult, SeedScores } from './result.ts';
import { runOnce, settingsText } from './run.ts';
import type { Scores } from './task.ts';

/** Runs every seed. Scores of the result are means, its costs sums. Undefined where the signal ended it. */
export async function finetuneSeeds(
  directory: string,
  config: FinetuneConfig,
  seeds: readonly number[],
  parts: FinetuneParts,
): Promise<FinetuneResult | undefined> {
  writeWhole(join(directory, 'config.yaml'), settingsText(config));
  const results: FinetuneResult[] = [];
  for (const seed of seeds) {
    const { seeds: _, ...train } = config.train;
    const own = { ...config, name: join(config.name, `seed-${seed}`), train: { ...train, seed } };
    const place = join(directory, `seed-${seed}`);
    const result = finished(place, own) ?? (await runOnce(place, own, withSeed(parts, seed)));
    if (!result) return undefined;
    results.push(result);
  }
  const whole = together(results, seeds);
  writeWhole(join(directory, 'scores.json'), `${JSON.stringify(whole, null, 2)}\n`);
  return whole;
}

const withSeed = ({ note, progress, signal }: FinetuneParts, seed: number): FinetuneParts => ({
  note: (line) => note(`seed ${seed}  ${line}`),
  progress: (line) => progress(`seed ${seed}  ${line}`),
  signal,
});

/** The result of a run of these settings that came to its end. */
function finished(folder: string, config: FinetuneConfig): FinetuneResult | undefined {
  const [settings, scores] = [join(folder, 'config.yaml'), join(folder, 'scores.json')];
  if (!existsSync(scores) || readFileSync(settings, 'utf8') !== settingsText(config)) return undefined;
  return JSON.parse(readFileSync(scores, 'utf8')) as FinetuneResult;
}

function together(results: readonly FinetuneResult[], seeds: readonly number[]): FinetuneResult {
  const sum = (of: (result: FinetuneResult) => number) => results.reduce((total, result) => total + of(result), 0);
  const [validation, test] = (['validation', 'test'] as const).map((split) => estimates(results.map((r) => r[split])));
  const unknown = results.find(({ energy_joules }) => energy_joules === null);
  return {
    ...results[0]!,
    best_step: Math.round(sum(({ best_step }) => best_step) / results.length),
    steps: sum(({ steps }) => steps),
    validation: means(validation),
    test: means(test),
    seconds: sum(({ seconds }) => seconds),
    energy_joules: unknown ? null : sum(({ energy_joules }) => energy_joules!),
    energy_from: (unknown ?? results[0]!).energy_from,
    peak_bytes: Math.max(...results.map(({ peak_bytes }) => peak_bytes)),
    over_seeds: { seeds, validation, test },
  };
}

/** Of the scores that every run has. */
function estimates(runs: readonly (Scores | undefined)[]): Record<string, Estimate> | undefined {
  const [first] = runs;
  if (!first) return undefined;
  const names = Object.keys(first).filter((name) => runs.every((scores) => scores?.[name] !== undefined));
  return Object.fromEntries(names.map((name) => [name, estimate(runs.map((scores) => scores![name]!))]));
}

const means = (scores: Record<string, Estimate> | undefined): Scores | undefined =>
  scores && Object.fromEntries(Object.entries(scores).map(([name, { mean }]) => [name, mean]));

/** Lines of a table: score, mean, half of the interval, standard deviation, the score of each seed. */
export function seedTable({ seeds, validation, test }: SeedScores): string[] {
  const rows = Object.entries({ validation, test }).flatMap(([split, scores]) =>
    Object.entries(scores ?? {}).map(([name, { mean, high, standard_deviation, values }]) => [
      `${split} ${name}`,
      `${mean.toFixed(2)} ± ${(high - mean).toFixed(2)}`,
      standard_deviation.toFixed(2),
      ...values.map((value) => value.toFixed(2)),
    ]),
  );
  const head = ['', 'mean ± 95 %', 'deviation', ...seeds.map((seed) => `seed ${seed}`)];
  const widths = head.map((title, i) => Math.max(title.length, ...rows.map((row) => row[i]!.length)));
  return [head, ...rows].map((row) =>
    row.map((cell, i) => (i === 0 ? cell.padEnd(widths[i]!) : cell.padStart(widths[i]!))).join('  '),
  );
}
