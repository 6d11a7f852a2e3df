/** The end of a model while calls of it still run, as in a program that serves requests. */
import assert from 'node:assert/strict';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, test } from 'node:test';
import { setImmediate } from 'node:timers/promises';
import { T5EncoderModel, T5ForConditionalGeneration } from '../src/index.ts';
import { Lifetime } from '../src/util/lifetime.ts';
import { published } from './model_configs.ts';

const rows = Array.from({ length: 12 }, (_, r) => ({ input_ids: [[5 + r, 9, 13, 2, 37, 8, 1]] }));
const endless = { max_new_tokens: 40, eos_token_id: null };
type Learnt = Awaited<ReturnType<T5ForConditionalGeneration['lossAndGradients']>>;
const numbersOf = ({ loss, gradients }: Learnt) => [
  loss,
  ...Object.entries(gradients).map(([name, { data }]) => [name, data]),
];
const open = () => T5ForConditionalGeneration.from_config(published.v1_1, { device: 'cpu', seed: 7 });

describe('a model that is disposed of', () => {
  test('while it writes gives every answer that was begun, refuses new ones, and frees its memory then', async () => {
    const model = open();
    const { usage } = model.backend;
    const alone = [];
    for (const row of rows) alone.push(await model.generate({ ...row, ...endless }));
    const running = Promise.all(rows.map((row) => model.generate({ ...row, ...endless })));
    await setImmediate();
    const inUse = usage.bytes;
    model.dispose();
    assert.equal(usage.bytes, inUse, 'nothing is freed yet');
    await assert.rejects(model.generate({ ...rows[0]!, ...endless }), /model: used after dispose\(\)/);
    assert.deepEqual(await running, alone);
    await setImmediate();
    const weights = 4 * model.parameters.places.reduce((sum, { length }) => sum + length, 0);
    assert.ok(usage.bytes <= inUse - weights, `${usage.bytes} bytes are left of ${inUse}`);
  });

  test('while it is saved or differentiated finishes that', async () => {
    const folder = mkdtempSync(join(tmpdir(), 'fat5-dispose-'));
    const model = open();
    const inputs = { ...rows[0]!, labels: [[4, 8, 1]] };
    const before = await model.lossAndGradients(inputs);
    const saving = model.save_pretrained(folder);
    const learning = model.lossAndGradients(inputs);
    model.dispose();
    assert.deepEqual(numbersOf(await learning), numbersOf(before));
    await saving;
    const again = await T5ForConditionalGeneration.from_pretrained(folder, { device: 'cpu' });
    assert.deepEqual(numbersOf(await again.lossAndGradients(inputs)), numbersOf(before));
    again.dispose();
    rmSync(folder, { recursive: true });
  });

  test('refuses every other use, and a second time does nothing', async () => {
    const model = open();
    const encoder = T5EncoderModel.from_config(published.v1_1, { device: 'cpu' });
    const { usage } = model.backend;
    for (const one of [model, encoder]) one.dispose();
    const left = usage.bytes;
    for (const one of [model, encoder]) one.dispose();
    assert.equal(usage.bytes, left);
    const late = /model: used after dispose\(\)/;
    await assert.rejects(model.forward({ ...rows[0]!, labels: [[4, 1]] }), late);
    await assert.rejects(model.lossAndGradients({ ...rows[0]!, labels: [[4, 1]] }), late);
    await assert.rejects(model.encode(rows[0]!), late);
    await assert.rejects(encoder.forward(rows[0]!), late);
    await assert.rejects(model.save_pretrained('nowhere'), late);
  });
});

test('the end of a lifetime waits for the last of its users, one that fails too', async () => {
  let isFreed = false;
  const lifetime = new Lifetime('it', () => {
    isFreed = true;
  });
  const first = lifetime.use(() => setImmediate(1));
  const failing = lifetime.use(async () => {
    await setImmediate();
    throw new Error('no');
  });
  const end = lifetime.end();
  assert.equal(isFreed, false);
  assert.equal(await first, 1);
  await assert.rejects(failing, /no/);
  await end;
  assert.equal(isFreed, true);
  assert.throws(() => lifetime.check(), /it: used after dispose/);
});
