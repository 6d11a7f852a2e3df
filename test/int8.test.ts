/** Inference in int8: the quantised product's bits, and whole models against the float64 definition of every kernel. */
import assert from 'node:assert/strict';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { openCpu } from '../src/backend/cpu/cpu.ts';
import { T5ForConditionalGeneration, T5ForTokenClassification } from '../src/index.ts';
import { linearInt8 } from '../src/ops/linear_int8/linear_int8.ts';
import { packedPlace } from '../src/ops/linear_int8/packed.ts';
import { quantiseRows } from '../src/ops/linear_int8/quantise_rows.ts';
import { Tensor } from '../src/tensor/tensor.ts';
import { UsageError } from '../src/util/errors.ts';
import { roundToEven } from '../src/util/round.ts';
import { uniform } from './harness.ts';
import { published } from './model_configs.ts';

const backend = openCpu();
const root = mkdtempSync(join(tmpdir(), 'fat5-int8-'));
after(() => rmSync(root, { recursive: true }));

const sizes = { d_model: 64, d_kv: 16, d_ff: 128, num_heads: 4, vocab_size: 97 };
const configs = { v1_0: { ...published.v1_0, ...sizes }, v1_1: { ...published.v1_1, ...sizes }, odd: published.umt5 };
before(async () => {
  for (const [name, config] of Object.entries(configs)) {
    const model = T5ForConditionalGeneration.from_config(config, { seed: 3 });
    await model.save_pretrained(join(root, name));
    model.dispose();
  }
});
const load = (name: string, dtype: 'float32' | 'int8', device: 'cpu' | 'reference' = 'cpu') =>
  T5ForConditionalGeneration.from_pretrained(join(root, name), { dtype, device });

const random = uniform(7);
const numbers = (length: number) => Float32Array.from({ length }, () => random() * 2 - 1);

function quantised(O: number, I: number, values: Float32Array): Tensor {
  const weight = Tensor.empty(backend, 'i8', [O, I]);
  weight.scales = Tensor.empty(backend, 'f32', [O]);
  quantiseRows(Tensor.from(backend, 'f32', [O, I], values), weight);
  return weight;
}
const weightOf = (O: number, I: number) => quantised(O, I, numbers(O * I));

for (const I of [131, 192])
  test(`a row of ${I} numbers has the same bits in any number of rows`, async () => {
    const weights = [77, 32, 5].map((O) => weightOf(O, I));
    const x = numbers(75 * I);
    const outputs = async (first: number, count: number) => {
      const rows = Tensor.from(backend, 'f32', [count, I], x.subarray(first * I, (first + count) * I));
      return Promise.all(linearInt8(rows, weights, 0.7).map((y) => y.read()));
    };
    const all = await outputs(0, 75);
    for (const count of [1, 2, 3, 6, 8, 15, 16, 17, 33, 64])
      for (const [j, part] of (await outputs(4, count)).entries()) {
        const O = weights[j]!.shape[0]!;
        assert.deepEqual(part, all[j]!.slice(4 * O, (4 + count) * O), `${count} rows, output ${j}`);
      }
  });

test('the largest numbers, everywhere, do not overflow', async () => {
  const [N, I] = [17, 4096];
  const values = new Int8Array(3 * I).fill(127);
  for (let i = 0; i < I; i++) values[packedPlace(1, i, 3, I)] = -127;
  const weight = Tensor.from(backend, 'i8', [3, I], values);
  weight.scales = Tensor.from(backend, 'f32', [3], [1, 1, 1]);
  for (const sign of [1, -1]) {
    const x = Tensor.from(backend, 'f32', [N, I], new Float32Array(N * I).fill(sign * 127));
    const y = await linearInt8(x, [weight], 1)[0]!.read();
    for (let n = 0; n < N; n++)
      assert.deepEqual(
        [...y.slice(3 * n, 3 * n + 3)],
        [1, -1, 1].map((s) => s * sign * 127 * 127 * I),
      );
  }
});

test('a row with a NaN or an infinity gives NaN, the others what they give without it', async () => {
  const weight = weightOf(20, 70);
  const x = numbers(20 * 70);
  const clean = await linearInt8(Tensor.from(backend, 'f32', [20, 70], x), [weight], 1)[0]!.read();
  x[3 * 70 + 5] = Number.NaN;
  x[9 * 70 + 69] = Number.NEGATIVE_INFINITY;
  const y = await linearInt8(Tensor.from(backend, 'f32', [20, 70], x), [weight], 1)[0]!.read();
  for (let i = 0; i < y.length; i++) {
    if (i / 20 < 3 || i / 20 >= 10) assert.equal(y[i], clean[i]);
    else if (Math.floor(i / 20) === 3 || Math.floor(i / 20) === 9) assert.ok(Number.isNaN(y[i]));
  }
});

test('numbers half way between two go to the even one', () => {
  assert.deepEqual(
    [0.5, 1.5, 2.5, -0.5, -1.5, -2.5, 2.4999, -126.6].map((x) => roundToEven(x) + 0),
    [...[0, 2, 2, 0, -2, -2, 2, -127]],
  );
});

test('rows of a weight are quantised each by its largest number', async () => {
  const weight = quantised(4, 3, Float32Array.of(1, -2, 0.5, 0, 0, 0, 4, 4.01, -4.02, 1, Number.NaN, 2));
  assert.deepEqual([...(await weight.read())].slice(0, 9), [64, -127, 32, 0, 0, 0, 126, 127, -127]);
  assert.deepEqual([...(await weight.scales!.read())], [...[2 / 127, 0, 4.02 / 127].map(Math.fround), Number.NaN]);
});

const inputs = { input_ids: [[5, 9, 13, 21, 8, 30, 2, 1]], decoder_input_ids: [[0, 4, 17, 3]] };

for (const name of Object.keys(configs))
  test(`logits of ${name} in int8 are those of the float64 definition, and near float32's`, async () => {
    const models = [await load(name, 'int8'), await load(name, 'int8', 'reference'), await load(name, 'float32')];
    const [ours, defined, exact] = await Promise.all(models.map(async (m) => (await m.forward(inputs)).logits.data));
    const distance = (a: ArrayLike<number>, b: ArrayLike<number>) =>
      Math.sqrt(Array.from(a).reduce((sum, v, i) => sum + (v - b[i]!) ** 2, 0));
    const size = distance(exact!, new Float32Array(exact!.length));
    // A number that lies between two steps may fall on another side in float32: few do.
    assert.ok(distance(ours!, defined!) < 0.003 * size, `${distance(ours!, defined!) / size}`);
    const cost = distance(ours!, exact!) / size;
    assert.ok(cost > 1e-4 && cost < 0.08, `${cost}`);
    for (const m of models) m.dispose();
  });

test('an int8 model writes the same tokens alone and in a batch', async () => {
  const model = await load('v1_1', 'int8');
  const sources = [
    [5, 9, 13, 21, 8, 30, 2, 1],
    [7, 3, 1],
    [44, 12, 60, 61, 62, 9, 1],
  ];
  const width = 8;
  const together = await model.generate({
    input_ids: sources.map((ids) => [...ids, ...new Array(width - ids.length).fill(0)]),
    attention_mask: sources.map((ids) => Array.from({ length: width }, (_, i) => (i < ids.length ? 1 : 0))),
    max_new_tokens: 12,
    min_new_tokens: 12,
  });
  for (const [i, ids] of sources.entries())
    assert.deepEqual(await model.generate({ input_ids: [ids], max_new_tokens: 12, min_new_tokens: 12 }), [together[i]]);
  model.dispose();
});

test('int8 takes a quarter of the memory of the matrices, and at no time more', async () => {
  const before = backend.usage.bytes;
  backend.resetPeak();
  const model = await load('v1_1', 'int8');
  const floats = model.parameters.places.reduce((sum, { length }) => sum + 4 * length, 0);
  const all = [...model.parameters.all.values()];
  const matrices = all.reduce((sum, { dtype, length }) => sum + (dtype === 'i8' ? length : 0), 0);
  assert.ok(matrices > 0);
  assert.ok(backend.usage.bytes - before < 1.15 * (floats + matrices) + 65536, `${backend.usage.bytes - before}`);
  assert.ok(backend.usage.peakBytes - backend.usage.bytes <= 65536);
  model.dispose();
  assert.equal(backend.usage.bytes, before);
});

test('an encoder with a head runs in int8, its head in float32', async () => {
  const model = await T5ForTokenClassification.from_pretrained(join(root, 'v1_1'), { dtype: 'int8', device: 'cpu' });
  assert.equal(model.parameters.get('classifier.weight').dtype, 'f32');
  assert.equal(model.parameters.get('transformer.encoder.block.0.layer.0.SelfAttention.q.weight').dtype, 'i8');
  const { logits } = await model.forward({ input_ids: [[5, 9, 1]] });
  assert.ok(logits.data.every(Number.isFinite));
  model.dispose();
});

test('an int8 model is not trained, saved or begun', async () => {
  const model = await load('v1_1', 'int8');
  await assert.rejects(model.lossAndGradients({ input_ids: [[5, 1]], labels: [[4, 1]] }), {
    name: UsageError.name,
    message: /int8 cannot be trained/,
  });
  await assert.rejects(model.save_pretrained(join(root, 'saved')), /int8 are not saved/);
  assert.throws(() => T5ForConditionalGeneration.from_config(configs.v1_1, { dtype: 'int8' }), /not made in int8/);
  model.dispose();
});
