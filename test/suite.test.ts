import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { cpSync, existsSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { comparedModels } from '../src/finetune/suite/checkpoints.ts';
import { csv, markdown, svg, writeReport } from '../src/finetune/suite/report.ts';
import { configOfTask, loadSuite } from '../src/finetune/suite/settings.ts';
import { runSuite, type SuiteRow } from '../src/finetune/suite/suite.ts';
import { T5ForConditionalGeneration } from '../src/model/t5.ts';
import { saveCheckpoint } from '../src/train/checkpoint.ts';
import { type SmallRun, smallRun } from './small_run.ts';

const nouns = ['cat', 'dog', 'cow', 'oak', 'fir', 'elm'];
const rows = (count: number) =>
  Array.from({ length: count }, (_, i) => ({
    text: `the ${nouns[i % 6]}`,
    label: i % 6 < 3 ? 'animal' : 'plant',
    tokens: ['the', nouns[i % 6]],
    tags: ['O', i % 6 < 3 ? 'B-ANIMAL' : 'B-PLANT'],
  }));

const suiteText = `
title: Nouns
data: DATA
settings: { train: { epochs: 1, rows: 8, max_length: 16 }, optim: { name: adamw, learning_rate: 0.01, schedule: { name: constant } } }
tasks:
  - { name: kinds, config: kinds.yaml, train: rows.jsonl, test: rows.jsonl, metric: macro_f1 }
  - { name: words, config: words.yaml, train: rows.jsonl, validation: rows.jsonl, settings: { train: { epochs: 2 } } }
`;

let small: SmallRun;
let pretrained: string;
before(async () => {
  small = await smallRun([...rows(6).map(({ text }) => text), 'animal plant']);
  small.jsonl('rows.jsonl', rows(24));
  pretrained = small.at('pretrained');
  for (const step of [200, 100]) {
    const state = {
      ...{ step, seed: 1, data: null },
      progress: { label_tokens: 1000 * step, seconds: step, window: {} },
    };
    await saveCheckpoint(join(pretrained, 'checkpoints'), state, async (into) => {
      const model = await T5ForConditionalGeneration.from_pretrained(small.at('model'));
      await model.save_pretrained(into);
      model.dispose();
      for (const name of readdirSync(small.at('model')))
        if (name.startsWith('token')) cpSync(small.at(`model/${name}`), join(into, name));
    });
  }
  writeFileSync(small.at('suite.yaml'), suiteText.replace('DATA', small.at('')));
  writeFileSync(
    small.at('kinds.yaml'),
    'task: { name: classification, input: text, target: label }\nmodel: x\ndata: { train: x }',
  );
  writeFileSync(small.at('words.yaml'), 'task: { name: token_classification }\nmodel: x\ndata: { train: x }');
});
after(() => small.remove());

const quiet = (signal = new AbortController().signal) => ({ note: () => {}, progress: () => {}, signal });
const output = () => small.at('results');
const compare = async (signal?: AbortSignal, overrides: string[] = [], into = output()) => {
  const suite = loadSuite(small.at('suite.yaml'), overrides);
  const models = await comparedModels([pretrained, 'random']);
  return { suite, rows: await runSuite(suite, models, into, quiet(signal), (done) => writeReport(suite, done, into)) };
};
const withoutCosts = (found: readonly SuiteRow[]) =>
  found.map(({ model, task, seed, metric, score }) => ({ model: model.name, task, seed, metric, score }));

test('a suite scores every task from every checkpoint and from random weights, and writes table, CSV and plot', async () => {
  const { suite, rows: found } = await compare();
  const names = ['random', 'step-0000100', 'step-0000200'];
  assert.deepEqual(
    found!.map(({ model, task, metric }) => [model.name, task, metric]),
    names.flatMap((name) => [
      [name, 'kinds', 'macro_f1'],
      [name, 'words', 'f1'],
    ]),
  );
  for (const { result, score, metric, energy_from, directory } of found!) {
    assert.equal(score, (result.test ?? result.validation)![metric]);
    assert.ok(result.seconds > 0 && result.peak_bytes > 1e6 && energy_from.length > 0);
    assert.deepEqual(
      readdirSync(directory).filter((name) => name === 'best' || name === 'checkpoints'),
      [],
    );
  }
  assert.equal(found![0]!.result.weights, 'random');
  assert.equal(found![1]!.result.steps, 6, "two epochs, as the task's own settings say");
  assert.equal(found![2]!.score, found![4]!.score, 'the checkpoints hold the same weights');
  const kinds = readFileSync(small.at('results/kinds/random-seed-42/predictions.jsonl'), 'utf8').trimEnd().split('\n');
  assert.equal(kinds.length, 24);

  const table = readFileSync(join(output(), 'results.md'), 'utf8');
  assert.equal(table, markdown(suite, found!));
  const of = (model: string) => found!.filter((row) => row.model.name === model).map(({ score }) => score);
  const mean = ((of('step-0000100')[0]! + of('step-0000100')[1]!) / 2).toFixed(2);
  assert.match(
    table,
    /^# Nouns\n[\s\S]*\| model \| tokens seen \| kinds, macro_f1 \| words, f1 \| mean \| time \| energy \| peak memory \|/,
  );
  assert.ok(
    table.includes(
      `| step-0000100 | 100,000 | ${of('step-0000100')
        .map((x) => x.toFixed(2))
        .join(' | ')} | ${mean} |`,
    ),
  );
  const lines = readFileSync(join(output(), 'results.csv'), 'utf8')
    .trimEnd()
    .split('\n')
    .map((line) => line.split(','));
  assert.deepEqual(lines[0]!.slice(0, 8), [
    'model',
    'step',
    'tokens',
    'pretraining_seconds',
    'task',
    'seed',
    'metric',
    'score',
  ]);
  assert.deepEqual(lines[3]!.slice(0, 7), ['step-0000100', '100', '100000', '100', 'kinds', '42', 'macro_f1']);
  assert.equal(Number(lines[3]![7]), found![2]!.score);
  const plot = readFileSync(join(output(), 'results.svg'), 'utf8');
  assert.equal(plot.match(/<circle/g)!.length, 6);
  assert.equal(plot, svg(suite, found!));
});

test('finished cells are read again; a stopped suite goes on with the same scores', async () => {
  const first = (await compare()).rows!;
  const scores = small.at('results/words/step-0000200-seed-42/scores.json');
  const written = statSync(scores).mtimeMs;
  rmSync(small.at('results/kinds/step-0000100-seed-42'), { recursive: true });
  const again = (await compare()).rows!;
  assert.deepEqual(withoutCosts(again), withoutCosts(first));
  assert.equal(statSync(scores).mtimeMs, written);
  for (let stops = 0; ; stops++) {
    const stop = new AbortController();
    setTimeout(() => stop.abort(), 60);
    const { rows: found } = await compare(stop.signal, [], small.at('stopped'));
    if (!found) continue;
    assert.ok(stops > 0, `stopped ${stops} times`);
    assert.deepEqual(withoutCosts(found), withoutCosts(first));
    break;
  }
});

test('several seeds are a run each, shown as mean and interval; unmeasured energy is estimated from the power', async () => {
  const seeds = ['seeds=[1, 2]', 'watts=50', 'settings.train.epochs=0.4'];
  const { suite, rows: found } = await compare(undefined, seeds, small.at('seeds'));
  assert.equal(found!.length, 12);
  assert.ok(existsSync(small.at('seeds/kinds/random-seed-2/scores.json')));
  const [a, b] = found!.map(({ score }) => score) as [number, number];
  const half = (12.706204736 * Math.abs(a - b)) / 2; // Student's t of one degree of freedom, times the standard error
  const shown = `| random | 0 | ${((a + b) / 2).toFixed(2)} ± ${half.toFixed(2)} |`;
  assert.ok(markdown(suite, found!).includes(shown), shown);
  for (const { energy, energy_from, result } of found!)
    if (result.energy_joules === null)
      assert.deepEqual([energy, energy_from], [50 * result.seconds, 'estimated at 50 W']);
  assert.equal(csv(found!).trimEnd().split('\n').length, 13);
});

test('what is compared: one checkpoint, one folder, the best of a fine-tuned run', async () => {
  const [one] = await comparedModels([join(pretrained, 'checkpoints/step-0000200')]);
  assert.deepEqual([one!.name, one!.step, one!.tokens], ['step-0000200', 200, 200_000]);
  const [folder] = await comparedModels([small.at('model')]);
  assert.deepEqual([folder!.name, folder!.tokens], ['model', undefined]);
  cpSync(small.at('model'), small.at('tuned/best'), { recursive: true });
  cpSync(join(pretrained, 'checkpoints'), small.at('tuned/checkpoints'), { recursive: true });
  const [tuned] = await comparedModels([small.at('tuned')]);
  assert.equal(tuned!.model, small.at('tuned/best'));
  const both = await comparedModels([pretrained, small.at('tuned')]);
  assert.deepEqual(
    both.map(({ name }) => name),
    ['pretrained-step-0000100', 'pretrained-step-0000200', 'tuned'],
  );
});

test('the command prints the table, or a line a run, and refuses what means nothing to it', () => {
  const main = fileURLToPath(new URL('../src/cli/main.js', import.meta.url));
  const evaluate = (...args: string[]) => {
    const all = [
      main,
      'evaluate',
      '--suite',
      small.at('suite.yaml'),
      pretrained,
      'random',
      '--output',
      output(),
      ...args,
    ];
    const { status, stdout, stderr } = spawnSync(process.execPath, all, { encoding: 'utf8' });
    return { status, stdout, stderr };
  };
  const { status, stdout, stderr } = evaluate(); // its cells are there
  assert.equal(status, 0, stderr);
  assert.ok(stdout.includes('| step-0000200 | 200,000 |'), stdout);
  const lines = evaluate('--json').stdout.trimEnd().split('\n');
  const rows = lines.map(
    (line) => JSON.parse(line) as { checkpoint: string; task: string; score: number; seconds: number },
  );
  assert.deepEqual(
    rows.slice(2, 4).map(({ checkpoint, task }) => [checkpoint, task]),
    [
      ['step-0000100', 'kinds'],
      ['step-0000100', 'words'],
    ],
  );
  assert.ok(rows.every(({ score, seconds }) => score >= 0 && seconds > 0));
  const refused = evaluate('--dtype', 'bfloat16');
  assert.deepEqual([refused.status, refused.stdout], [2, '']);
  assert.match(refused.stderr, /^fat5: evaluate: --dtype means nothing to a suite/);
});

describe('a suite is refused', () => {
  const refused = async (overrides: string[], message: RegExp, into = 'refused') =>
    assert.rejects(compare(undefined, overrides, small.at(into)), message);
  test('for data that is not there, before anything runs', async () => {
    await refused([`data=${small.at('nowhere')}`], /nowhere\/rows\.jsonl: not found/);
    assert.ok(!existsSync(small.at('refused')));
  });
  test('for a cell that was run with other settings', async () => {
    await compare();
    await refused(
      ['settings.train.rows=4'],
      /random-seed-42: was started with train\.rows 8, now it is 4; name another --output/,
      'results',
    );
  });
  test('for settings that no task has, and unknown keys of its own', async () => {
    await refused(['settings.train.epoch=4'], /kinds\.yaml: unknown key "train\.epoch", did you mean "epochs"/);
    await refused(['settings.train.seeds=[1, 2]'], /kinds has train\.seeds, expected them in the suite's own "seeds"/);
    await refused(['seed=4'], /suite\.yaml: unknown key "seed", did you mean "seeds"/);
    await refused(['tasks.0.metric=bleu'], /kinds: metric "bleu" is no score of this task, expected one of accuracy/);
  });
  test('for a name that no suite has, and tasks that it has not', () => {
    assert.deepEqual(
      loadSuite('fat5', ['only=[qa, ner]']).tasks.map(({ name }) => name),
      ['ner', 'qa'],
    );
    assert.throws(() => loadSuite('fat5', ['only=[nerr]']), /fat5\.yaml: only: no task "nerr", did you mean "ner"/);
    assert.throws(() => loadSuite('fat6'), /fat6: not found, expected a suite's file or one of .*fat5/);
  });
  test('for random weights of no shape, and models of one name', async () => {
    await assert.rejects(comparedModels(['random']), /"random" needs a model or a run whose shape it has/);
    await assert.rejects(comparedModels([]), /expected a run such as runs\/NAME/);
    await assert.rejects(comparedModels([small.at('model'), small.at('model')]), /two models are called "model"/);
  });
});

describe('configs/suites/', () => {
  const folder = fileURLToPath(new URL('../../configs/suites/', import.meta.url));
  for (const file of readdirSync(folder))
    test(`${file} is complete`, () => {
      const suite = loadSuite(file.replace('.yaml', ''));
      for (const task of suite.tasks) {
        const run = { model: 'm', weights: 'random' as const, runs_directory: 'r', name: 'n', seed: 3 };
        const config = configOfTask(suite, task, run);
        assert.deepEqual([config.name, config.train.seed, config.weights], ['n', 3, 'random']);
        assert.ok(config.data.train[0]!.startsWith(join(process.cwd(), 'data')));
      }
    });
});
