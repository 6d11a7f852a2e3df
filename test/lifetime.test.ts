/** Memory that was given back: whoever uses it all the same is told, and nobody gets another one's numbers. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { openReference } from '../src/backend/reference.ts';
import { T5ForConditionalGeneration } from '../src/model/t5.ts';
import { add } from '../src/ops/add/add.ts';
import { scale } from '../src/ops/scale/scale.ts';
import { dispose, scope } from '../src/tensor/scope.ts';
import { Tensor } from '../src/tensor/tensor.ts';
import { Trainer } from '../src/train/trainer.ts';
import { testedBackend, testedDevice } from './harness.ts';

const config = { vocab_size: 40, d_model: 16, d_kv: 8, d_ff: 32, num_layers: 1, num_heads: 2, dropout_rate: 0 };
const inputs = { input_ids: [[5, 6, 7, 1]], labels: [[3, 4, 1]] };
const modelOf = (seed: number) => T5ForConditionalGeneration.from_config(config, { device: testedDevice, seed });

for (const backend of [openReference(), testedBackend()]) {
  const { name } = backend;
  const ones = () => Tensor.from(backend, 'f32', [2, 3], new Float32Array(6).fill(1));

  test(`${name}: a tensor that was disposed of is named by whoever is given it`, async () => {
    const [kept, gone] = [ones(), ones()];
    dispose(gone);
    const why = ' [2,3] was disposed of, expected one that is in use; keep it, or its model, until this is done';
    const refused = (what: string) => ({ name: 'BackendError', message: what + why });
    assert.throws(() => add(kept.view(2, 3), gone), { name: 'BackendError', message: /^add: b \[6\] was disposed of/ });
    assert.throws(() => gone.write(new Float32Array(6)), refused('Tensor.write: the tensor'));
    await assert.rejects(gone.read(), refused('Tensor.read: the tensor'));
    await assert.rejects(gone.part(0, 3).read(), /the tensor \[3\] was disposed of/);
    dispose(kept);
  });

  test(`${name}: what a scope has freed cannot be used behind it`, () => {
    let inner: Tensor | undefined;
    scope(() => void (inner = scale(ones(), 2)));
    assert.throws(() => scale(inner!, 2), /^BackendError: scale: x \[6\] was disposed of/);
  });

  test(`${name}: freeing twice is refused, and the memory stays with who has it now`, async () => {
    const before = backend.usage.bytes;
    const gone = ones();
    dispose(gone);
    assert.throws(() => dispose(gone), { name: 'BackendError', message: /^memory: f32\[6\] is freed, expected once/ });
    const [a, b] = [ones(), ones()];
    b.write([1, 2, 3, 4, 5, 6]);
    assert.deepEqual([...(await a.read())], [1, 1, 1, 1, 1, 1]);
    dispose(a, b);
    assert.equal(backend.usage.bytes, before);
  });
}

test('a model disposed of twice takes no memory from others', async () => {
  const { usage } = testedBackend();
  const before = usage.bytes;
  const losses: (number | undefined)[] = [];
  for (const seed of [1, 2]) {
    const model = modelOf(seed);
    losses.push((await model.forward(inputs)).loss);
    model.dispose();
    model.dispose();
  }
  const both = [modelOf(1), modelOf(2)];
  for (const [i, model] of both.entries()) assert.equal((await model.forward(inputs)).loss, losses[i]);
  for (const model of both) model.dispose();
  assert.equal(usage.bytes, before);
});

test('a trainer disposed of twice takes no memory from others, and refuses another step', async () => {
  const { usage } = testedBackend();
  const before = usage.bytes;
  const model = modelOf(1);
  const trainer = new Trainer(model, { optimizer: { name: 'adamw', learning_rate: 0.01 } });
  await trainer.step(inputs);
  trainer.dispose();
  trainer.dispose();
  await assert.rejects(trainer.step(inputs), { name: 'BackendError', message: /was disposed of/ });
  model.dispose();
  assert.equal(usage.bytes, before);
});

test('recorded launches do not run once something that they read was given back', (t) => {
  const backend = testedBackend();
  if (!backend.list) return t.skip('this device has no lists');
  const x = Tensor.from(backend, 'f32', [2, 3], new Float32Array(6).fill(1));
  let y: Tensor | undefined;
  const list = backend.list(() => void (y = scope(() => scale(scale(x, 2), 3)))); // between the two lies memory of the list
  list.run();
  dispose(x);
  assert.throws(() => list.run(), {
    name: 'BackendError',
    message: /^recorded launches: use f32\[6\], which was given back/,
  });
  list.dispose();
  dispose(y!);
});
