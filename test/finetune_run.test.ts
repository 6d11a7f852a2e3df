import assert from 'node:assert/strict';
import { cpSync, existsSync, mkdirSync, readFileSync, rmSync } from 'node:fs';
import { test } from 'node:test';
import { openReference } from '../src/backend/reference.ts';
import { positiveWeightsOf, weightsOf } from '../src/finetune/class_weights.ts';
import { CostMeter } from '../src/finetune/cost.ts';
import { namedBy } from '../src/finetune/frozen.ts';
import { bestOf, noneYet } from '../src/finetune/selection.ts';
import { readMetrics } from '../src/train/metrics.ts';
import { at, run } from './finetune_fixture.ts';
import { readSafetensors } from './read_safetensors.ts';

const task = { name: 'classification', input: 'text', target: 'label' };
const few = { train: { epochs: 0.2, rows: 8 } };

test('the tokenizer may be a folder or a file elsewhere, and best/ has a copy', async () => {
  mkdirSync(at('apart'));
  cpSync(at('model'), at('bare'), { recursive: true });
  for (const name of ['tokenizer.json', 'tokenizer_config.json']) {
    cpSync(at(`model/${name}`), at(`apart/${name}`));
    rmSync(at(`bare/${name}`));
  }
  await assert.rejects(run('no-tokenizer', task, { ...few, model: at('bare') }), /bare: has no tokenizer\.json/);
  const whole = (await run('own', task, few))!;
  for (const [name, tokenizer] of Object.entries({ folder: at('apart'), file: at('apart/tokenizer.json') })) {
    const other = (await run(name, task, { ...few, model: at('bare'), tokenizer }))!;
    assert.deepEqual(other.test, whole.test);
    assert.ok(existsSync(at(`runs/${name}/best/tokenizer.json`)));
  }
});

test('scores.json says what a run cost', async () => {
  const result = (await run('cost', task, few))!;
  const written = JSON.parse(readFileSync(at('runs/cost/scores.json'), 'utf8')) as typeof result;
  assert.ok(written.seconds > 0 && written.seconds < 60, `${written.seconds} s`);
  assert.ok(written.peak_bytes > 20e6 && written.peak_bytes < 4e9, `${written.peak_bytes} bytes`);
  assert.ok(written.energy_joules === null || written.energy_joules > 0);
  assert.match(written.energy_from, written.energy_joules === null ? /^unknown: no RAPL/ : /RAPL/);
});

test('a cost adds to that of the part before, and the energy of a GPU is what its counter gained', () => {
  let counter = 1000;
  const gpu = Object.assign(Object.create(openReference()), {
    name: 'cuda',
    joules: () => counter,
    usage: { bytes: 0, peakBytes: 500 },
  });
  const meter = new CostMeter(gpu, { state: { seconds: 100, joules: 30, bytes: 700 } });
  counter = 1012;
  const { seconds, ...rest } = meter.now();
  assert.ok(seconds >= 100 && seconds < 101);
  assert.deepEqual(rest, { energy_joules: 42, energy_from: 'GPU (NVML)', peak_bytes: 700 });
  const unknown = new CostMeter(gpu, { state: { seconds: 100, bytes: 1 }, watts: 50 }).now();
  assert.equal(unknown.energy_joules, null);
  assert.match(unknown.energy_from, /an earlier part of the run was not measured/);
  const silent = Object.assign(Object.create(gpu), { joules: () => undefined });
  const estimated = new CostMeter(silent, { state: { seconds: 100, joules: 5000, bytes: 1 }, watts: 50 });
  const { seconds: now, energy_joules, energy_from } = estimated.now();
  assert.ok(Math.abs(energy_joules! - 50 * now) < 1 && energy_joules! >= 5000, `${energy_joules} J in ${now} s`);
  assert.equal(energy_from, 'estimated at 50 W');
});

test('the best step has the most of a score, but the least of an error; others in a row are counted', () => {
  const steps = (metric: string, values: number[]) =>
    values.reduce((best, value, i) => bestOf(best, i + 1, { [metric]: value }, metric), noneYet);
  assert.deepEqual(steps('f1', [3, 5, 5, 4]), { step: 2, scores: { f1: 5 }, worse: 2 });
  assert.deepEqual(steps('mse', [3, 5, 2, 4]), { step: 3, scores: { mse: 2 }, worse: 1 });
});

/** The largest change of each parameter of the backbone between the model and a run's best step. */
function changes(name: string): Map<string, number> {
  const [before, now] = ['model', `runs/${name}/best`].map((place) =>
    readSafetensors(at(`${place}/model.safetensors`)),
  );
  const floats = (bytes: Buffer) => new Float32Array(Uint8Array.from(bytes).buffer);
  const found = new Map<string, number>();
  for (const [parameter, bytes] of now!) {
    const old = before!.get(parameter.replace('transformer.', ''));
    if (!old) continue;
    const [a, b] = [floats(old), floats(bytes)];
    found.set(parameter.replace('transformer.', ''), Math.max(...b.map((x, i) => Math.abs(x - a[i]!))));
  }
  return found;
}

test('frozen parameters are those whose names have a pattern, numbers whole', async () => {
  const names = ['shared.weight', 'encoder.block.1.q.weight', 'encoder.block.10.q.weight', 'decoder.block.2.ln.weight'];
  const matched = (...patterns: string[]) => names.filter(namedBy(patterns, names)).map((name) => names.indexOf(name));
  assert.deepEqual(matched('encoder.block.1'), [1]);
  assert.deepEqual(matched('block.1-2'), [1, 3]);
  assert.deepEqual(matched('encoder.block.*', 'shared'), [0, 1, 2]);
  assert.deepEqual(matched('l*.weight'), [3]);
  assert.deepEqual(matched('block.*.q'), [1, 2]);
  assert.throws(
    () => matched('encoder.block.3-9'),
    /train\.frozen: "encoder\.block\.3-9" names no parameter, expected/,
  );
  const frozen = ['shared', 'encoder.block.0', 'final_layer_norm'];
  await run('some-frozen', task, { train: { epochs: 0.2, rows: 8, frozen } });
  for (const [name, change] of changes('some-frozen'))
    assert.equal(change === 0, /shared|block\.0|final/.test(name), `${name} ${change}`);
});

test('the first step of AdamW moves each block by its share of the learning rate', async () => {
  const optim = { name: 'adamw', learning_rate: 1e-2, weight_decay: 0, schedule: { name: 'constant' } };
  await run('decayed', task, { train: { epochs: 0.01, rows: 8, layer_decay: 0.5 }, optim });
  const found = changes('decayed');
  assert.ok(found.size > 15);
  for (const [name, change] of found) {
    const share = name.includes('shared')
      ? 0.125
      : name.includes('block.0')
        ? 0.25
        : name.includes('block.1')
          ? 0.5
          : 1;
    assert.ok(Math.abs(change / (1e-2 * share) - 1) < 1e-2, `${name} moved ${change}, expected ${1e-2 * share}`);
  }
});

test('balanced class weights make every class count alike', () => {
  assert.deepEqual(weightsOf('balanced', ['a', 'b', 'c'], [0, 0, 0, 1]), [4 / 9, 4 / 3, 1]);
  assert.deepEqual(weightsOf([1, 2], ['a', 'b'], [0]), [1, 2]);
  assert.equal(weightsOf(undefined, ['a'], [0]), undefined);
  assert.throws(
    () => weightsOf([1, 2], ['animal', 'plant', 'stone'], []),
    /task\.class_weights: 2 numbers, expected 3, one for each of animal, plant, stone/,
  );
});

test('where several classes hold, balanced weights are how often each does not over how often it does', async () => {
  const rows = [
    [1, 0, 1],
    [1, 0, 0],
    [1, 0, 0],
    [1, 0, 0],
  ];
  assert.deepEqual(positiveWeightsOf('balanced', ['a', 'b', 'c'], rows), [1, 1, 3]);
  assert.deepEqual(positiveWeightsOf([2, 3, 4], ['a', 'b', 'c'], rows), [2, 3, 4]);
  const several = { ...task, target: 'both', kind: 'multi_label' };
  const train = { epochs: 1, rows: 8, max_length: 32, dropout: 0 };
  await run('several-plain', several, { train });
  await run('several-weights', { ...several, class_weights: [1, 9] }, { train });
  const total = (name: string) =>
    readMetrics(at(`runs/several-${name}/metrics.jsonl`)).reduce((sum, r) => sum + (r.kind === 'step' ? r.loss : 0), 0);
  assert.ok(total('weights') > 1.2 * total('plain'), `${total('weights')} ${total('plain')}`);
});

test('class weights reach the loss of texts and of words', async () => {
  const loss = (name: string) => {
    const steps = readMetrics(at(`runs/${name}/metrics.jsonl`)).filter((record) => record.kind === 'step');
    return steps.at(-1)!.loss;
  };
  for (const [name, of] of Object.entries({ texts: task, words: { name: 'token_classification' } })) {
    const train = { epochs: 1, rows: 8, max_length: 32, dropout: 0 };
    await run(`${name}-plain`, of, { train });
    await run(`${name}-ones`, { ...of, class_weights: name === 'texts' ? [2, 2] : [2, 2, 2] }, { train });
    await run(`${name}-some`, { ...of, class_weights: name === 'texts' ? [9, 1] : [9, 1, 1] }, { train });
    await run(`${name}-smooth`, of, { train: { ...train, label_smoothing: 0.2 } });
    assert.ok(Math.abs(loss(`${name}-ones`) - loss(`${name}-plain`)) < 1e-4);
    assert.ok(Math.abs(loss(`${name}-some`) - loss(`${name}-plain`)) > 1e-3);
    assert.ok(Math.abs(loss(`${name}-smooth`) - loss(`${name}-plain`)) > 1e-3);
  }
  const several = { ...task, target: 'both', kind: 'multi_label' };
  await assert.rejects(
    run('weights-number', { ...task, target: 'score', kind: 'regression', class_weights: 'balanced' }),
    /task\.class_weights: means nothing to kind "regression", expected kinds with classes/,
  );
  await assert.rejects(
    async () => run('smooth-several', several, { train: { label_smoothing: 0.1 } }),
    /train\.label_smoothing means nothing to multi_label, expected 0, or a task that predicts texts or one class/,
  );
  await assert.rejects(
    async () => run('weights-text', { ...task, class_weights: 'equal' }),
    /task\.class_weights is "equal", expected "balanced" or a list of positive numbers/,
  );
});
