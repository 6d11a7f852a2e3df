import assert from 'node:assert/strict';
import { readFileSync, writeFileSync } from 'node:fs';
import { after, before, describe, test } from 'node:test';
import { BatchOrder } from '../src/finetune/order.ts';
import { allRows } from '../src/finetune/rows.ts';
import { apportioned, mixingRates, mixture } from '../src/finetune/tasks/mixture.ts';
import { openTokenizer } from '../src/tokenizer/auto_tokenizer.ts';
import { type SmallRun, smallRun } from './small_run.ts';

describe('mixing rates', () => {
  const sets = [10, 1000, 100_000].map((rows) => ({ rows, weight: 1 }));
  const near = (got: number[], want: number[]) =>
    want.forEach((value, i) => {
      assert.ok(Math.abs(got[i]! - value) < 1e-12, `${got}, expected ${want}`);
    });
  test('are proportional to the rows up to the limit', () => {
    near(mixingRates(sets, { limit: 1e9, temperature: 1 }), [10 / 101_010, 1000 / 101_010, 100_000 / 101_010]);
    near(mixingRates(sets, { limit: 4000, temperature: 1 }), [10 / 5010, 1000 / 5010, 4000 / 5010]);
  });
  test('come nearer to each other with temperature, and are times the weights', () => {
    const roots = [Math.sqrt(10), Math.sqrt(1000), Math.sqrt(4000)];
    const sum = roots[0]! + roots[1]! + roots[2]!;
    near(
      mixingRates(sets, { limit: 4000, temperature: 2 }),
      roots.map((root) => root / sum),
    );
    near(
      mixingRates(
        [
          { rows: 5, weight: 1 },
          { rows: 700, weight: 3 },
        ],
        { limit: 1, temperature: 1 },
      ),
      [0.25, 0.75],
    );
  });
  test('become whole numbers that sum to the epoch', () => {
    assert.deepEqual(apportioned(10, [0.25, 0.25, 0.5]), [3, 2, 5]);
    assert.deepEqual(apportioned(7, [0.05, 0.6, 0.35]), [0, 4, 3]);
  });
});

const nouns = ['cat', 'dog', 'cow', 'oak', 'fir', 'elm'];
const copies = (count: number) =>
  Array.from({ length: count }, (_, i) => ({ text: nouns[i % 6]!, target: nouns[i % 6]! }));
const kinds = (count: number) =>
  Array.from({ length: count }, (_, i) => ({
    instruction: nouns[i % 6]!,
    input: '',
    output: i % 6 < 3 ? 'animal' : 'plant',
  }));

let small: SmallRun;
before(async () => {
  small = await smallRun([...copies(6).flatMap(Object.values), 'animal plant copy: what']);
  small.jsonl('sets/copy.jsonl', copies(60));
  small.jsonl('sets/kind.jsonl', kinds(12));
  writeFileSync(
    small.at('sets/mixture.yaml'),
    `sets:
  - name: copy
    train: copy.jsonl
    test: copy.jsonl
    task: { name: text_to_text, input: text, target: target, prefix: "copy: ", metrics: [squad] }
  - name: kind
    train: [kind.jsonl]
    test: kind.jsonl
    task: { name: text_to_text, input: [instruction, input], target: output, prefix: "what: ", metrics: [rouge] }
`,
  );
});
after(() => small.remove());

const tools = () => ({ tokenizer: openTokenizer(small.at('model')), max_length: 16, max_target_length: 6, rows: 8 });
async function opened(temperature: number) {
  const task = mixture({ limit: 1000, temperature, seed: 1 }, tools());
  const examples = task.examples(await task.rows([small.at('sets/mixture.yaml')], 'train'), 'train');
  return { task, examples };
}

test('an epoch shows every set as often as its rate says, a small one again and again, a large one further each time', async () => {
  const { task, examples } = await opened(1e9);
  assert.equal(examples.length, 72);
  const epochs = [0, 1, 2].map((epoch) => [...task.epoch!(7, epoch)]);
  const parts = epochs.map((epoch) => [epoch.filter((i) => i < 60), epoch.filter((i) => i >= 60)] as const);
  for (const [copy, kind] of parts) {
    assert.deepEqual([copy.length, kind.length], [36, 36]);
    for (let i = 60; i < 72; i++) assert.equal(kind.filter((k) => k === i).length, 3, 'three passes over twelve rows');
  }
  const seen = [...parts[0]![0], ...parts[1]![0]].slice(0, 60);
  assert.deepEqual(
    [...seen].sort((a, b) => a - b),
    Array.from({ length: 60 }, (_, i) => i),
    'the second epoch goes on where the first ended',
  );
  assert.deepEqual(epochs[1], [...(await opened(1e9)).task.epoch!(7, 1)], 'the same for the same seed');
  assert.notDeepEqual(epochs[1], [...task.epoch!(8, 1)]);
  const order = new BatchOrder(Array(72).fill(1), 8, 7, (epoch) => task.epoch!(7, epoch));
  const batches = Array.from({ length: 9 }, (_, i) => order.batch(i)).flat();
  assert.deepEqual(
    [...batches].sort((a, b) => a - b),
    [...epochs[0]!].sort((a, b) => a - b),
  );
});

const settings = () => {
  const file = small.at('sets/mixture.yaml');
  return {
    task: { name: 'mixture', temperature: 2 },
    data: { train: file, validation: file, test: file },
    train: { epochs: 12, rows: 12, max_length: 16, max_target_length: 6 },
  };
};

test('a run on a mixture learns its sets, scores each, and chooses by their mean', async () => {
  writeFileSync(
    small.at('sets/mixture.yaml'),
    readFileSync(small.at('sets/mixture.yaml'), 'utf8')
      .replaceAll('    test:', '    validation: copy.jsonl\n    test:')
      .replace(/validation: copy.jsonl\n {4}test: kind/, 'validation: kind.jsonl\n    test: kind'),
  );
  const { test: scores, metric } = (await small.run('mixed', settings()))!;
  assert.equal(metric, 'mean');
  assert.ok(scores!.exact_match_copy! > 95 && scores!.rougeL_kind! > 95, JSON.stringify(scores));
  assert.ok(Math.abs(scores!.mean! - (scores!.f1_copy! + scores!.rougeL_kind!) / 2) < 1e-9);
  const lines = small.lines<{ row: string; wanted: { set: string }; scores: Record<string, number> }>(
    'runs/mixed/predictions.jsonl',
  );
  assert.deepEqual(
    ['copy', 'kind'].map((name) => lines.filter(({ wanted }) => wanted.set === name).length),
    [60, 12],
  );
  assert.deepEqual(
    [lines[0]!, lines.at(-1)!].map(({ row }) => row),
    [small.at('sets/copy.jsonl:1'), small.at('sets/kind.jsonl:12')],
  );
  assert.ok('f1_copy' in lines[0]!.scores && !('rougeL_kind' in lines[0]!.scores));
});

test('a stopped run on a mixture goes on with the same bits', async () => {
  const few = { ...settings(), train: { ...settings().train, epochs: 1 } };
  await small.run('whole', few);
  for (let stops = 0; ; stops++) {
    const stop = new AbortController();
    setTimeout(() => stop.abort(), 0);
    if (!(await small.run('stopped', few, stop.signal))) continue;
    assert.ok(stops > 1, `stopped ${stops} times`);
    break;
  }
  const [stopped, whole] = ['stopped', 'whole'].map((name) =>
    readFileSync(small.at(`runs/${name}/best/model.safetensors`)),
  );
  assert.deepEqual(stopped, whole);
});

test('a limit of rows holds for each set', async () => {
  const task = mixture({ limit: 10, temperature: 1, seed: 1 }, tools());
  assert.equal((await task.rows([small.at('sets/mixture.yaml')], 'train', 5)).length, 10);
});

describe('a mixture is refused', () => {
  const refused = (name: string, content: string, message: RegExp) => {
    writeFileSync(small.at(`sets/${name}.yaml`), content);
    const task = mixture({ limit: 10, temperature: 1, seed: 1 }, tools());
    return assert.rejects(async () => task.rows([small.at(`sets/${name}.yaml`)], 'train'), message);
  };
  const set = (name: string) =>
    `  - { name: ${name}, train: copy.jsonl, task: { name: text_to_text, input: text, target: target } }\n`;
  test('without sets, with unknown keys, with a name twice', async () => {
    await refused('none', 'sets: []', /none\.yaml: sets is \[\], expected at least one set/);
    await refused(
      'typo',
      'sets:\n  - { name: a, wieght: 2, task: { name: text_to_text, input: a, target: b } }',
      /typo\.yaml: unknown key "sets\.0\.wieght", did you mean "weight"/,
    );
    await refused('twice', `sets:\n${set('a')}${set('a')}`, /twice\.yaml: two sets are called "a"/);
    await refused(
      'class',
      'sets:\n  - { name: a, task: { name: classification } }',
      /class\.yaml: sets\.0\.task\.name is "classification", expected/,
    );
  });
  test('for a missing file, a missing column, or no rows of a split', async () => {
    await refused(
      'file',
      'sets:\n  - { name: a, train: no.jsonl, task: { name: text_to_text, input: a, target: b } }',
      /no\.jsonl: not found/,
    );
    await refused(
      'column',
      `sets:\n${set('a').replace('input: text', 'input: texte')}`,
      /copy\.jsonl:1: no column "texte", it has text, target/,
    );
    await refused('split', `sets:\n${set('a').replace('train:', 'test:')}`, /split\.yaml: no set has "train"/);
  });
});

describe('a teacher', () => {
  const task = { name: 'text_to_text', input: 'instruction', target: 'output', metrics: ['squad'] };
  const train = { epochs: 12, rows: 12, max_length: 16, max_target_length: 6 };
  test("writes the targets once; the student learns them though the rows' own are wrong", async () => {
    const right = small.jsonl('right.jsonl', kinds(24));
    const wrong = small.jsonl(
      'wrong.jsonl',
      kinds(24).map((row) => ({ ...row, output: 'cow' })),
    );
    await small.run('teacher', { task, data: { train: right, test: right }, train });
    const taught = { ...task, teacher: { model: small.at('runs/teacher'), num_beams: 2 } };
    const { test: scores } = (await small.run('student', {
      task: taught,
      data: { train: wrong, test: right },
      train,
    }))!;
    assert.equal(scores!.exact_match, 100);
    const rows = small.lines<{ input: string; target: string }>('runs/student/teacher.jsonl');
    assert.deepEqual(
      rows,
      kinds(24).map(({ instruction, output }) => ({ input: instruction, target: output })),
    );
    const read = await allRows([small.at('runs/student/teacher.jsonl')], ['input', 'target']);
    assert.equal(read.length, 24, 'the file can be trained on again');
  });
  test('that is no model is refused', async () => {
    await assert.rejects(
      small.run('nobody', {
        task: { ...task, teacher: { model: small.at('nobody') } },
        data: { train: small.jsonl('few.jsonl', kinds(6)) },
        train,
      }),
      /nobody: not found, expected a model's folder or a run's/,
    );
  });
});
