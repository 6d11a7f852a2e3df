import assert from 'node:assert/strict';
import { readFileSync, rmSync, statSync } from 'node:fs';
import { test } from 'node:test';
import { seedTable } from '../src/finetune/seeds.ts';
import { estimate, studentQuantile } from '../src/util/statistics.ts';
import { at, run } from './finetune_fixture.ts';

const near = (got: number, want: number) => assert.ok(Math.abs(got - want) < 1e-9 * Math.abs(want), `${got}, ${want}`);

test("means, deviations and intervals are scipy's", () => {
  const quantiles = { 1: 12.706204736174694, 2: 4.302652729749462, 3: 3.1824463052837078, 4: 2.7764451051977934 };
  for (const [degrees, t] of Object.entries({ ...quantiles, 9: 2.262157162798205, 30: 2.0422724563012378 }))
    near(studentQuantile(0.95, Number(degrees)), t);
  const { mean, standard_deviation, low, high } = estimate([81.2, 79.9, 83.05]);
  near(mean, 81.38333333333334);
  near(standard_deviation, 1.582982417253369);
  near(low, 77.45098701359655);
  near(high, 85.31567965307013);
});

const task = { name: 'classification', input: 'text', target: 'label' };
const train = { epochs: 1, rows: 8, max_length: 32 };
const several = { train: { ...train, seeds: [3, 4, 9] } };
const scoresOf = (name: string) => JSON.parse(readFileSync(at(`runs/${name}/scores.json`), 'utf8'));

test('several seeds are runs of their own, and their scores have a mean with an interval', async () => {
  const result = (await run('seeds', task, several))!;
  await run('alone', task, { train: { ...train, seed: 4 } });
  assert.deepEqual(scoresOf('seeds/seed-4').test, scoresOf('alone').test);
  const each = [3, 4, 9].map((seed) => scoresOf(`seeds/seed-${seed}`));
  const { values, mean } = result.over_seeds!.test!.accuracy!;
  assert.deepEqual(
    values,
    each.map(({ test: scores }) => scores.accuracy),
  );
  assert.equal(result.test!.accuracy, mean);
  near(
    result.seconds,
    each.reduce((sum, { seconds }) => sum + seconds, 0),
  );
  const written = scoresOf('seeds');
  assert.deepEqual(written.over_seeds.validation, result.over_seeds!.validation);
  const lines = seedTable(result.over_seeds!);
  assert.match(lines[0]!, /mean ± 95 % +deviation +seed 3 +seed 4 +seed 9$/);
  const row = lines.find((line) => line.startsWith('test accuracy'))!;
  assert.ok(row.includes(`${mean.toFixed(2)} ± `) && row.endsWith(values[2]!.toFixed(2)), row);
});

test('what is finished is not run again, what was stopped goes on, and all do with more epochs', async () => {
  const change = (seed: number) => statSync(at(`runs/seeds/seed-${seed}/predictions.jsonl`)).mtimeMs;
  const before = [3, 4, 9].map(change);
  const first = scoresOf('seeds');
  rmSync(at('runs/seeds/seed-9'), { recursive: true });
  for (let stops = 0; ; stops++) {
    const stop = new AbortController();
    setTimeout(() => stop.abort(), 0);
    const result = await run('seeds', task, several, stop.signal);
    if (!result) continue;
    assert.ok(stops > 0);
    assert.deepEqual(result.over_seeds!.test, first.over_seeds.test);
    break;
  }
  assert.deepEqual([3, 4].map(change), before.slice(0, 2));
  assert.notEqual(change(9), before[2]);
  await run('seeds', task, { train: { ...several.train, epochs: 2 } });
  assert.ok(change(3) > before[0]!);
});

test('one seed in a list is refused', async () => {
  await assert.rejects(
    async () => run('one-seed', task, { train: { ...train, seeds: [1] } }),
    /train\.seeds is \[1\], expected at least two numbers/,
  );
  await assert.rejects(
    async () => run('same-seed', task, { train: { ...train, seeds: [1, 1] } }),
    /train\.seeds is \[1,1\], expected numbers that differ/,
  );
});
