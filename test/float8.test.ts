/** float8: its numbers, quantised rows and their products on the tested device, and whole models whose encoders are in it. */
import assert from 'node:assert/strict';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { T5EncoderModel, T5ForConditionalGeneration } from '../src/index.ts';
import { t5Config } from '../src/model/config.ts';
import { encoder } from '../src/model/encoder.ts';
import { parameterTable } from '../src/model/parameter_table.ts';
import { encoderParameters } from '../src/model/parameter_tree.ts';
import { uploadSource } from '../src/model/seq2seq.ts';
import { storageOf } from '../src/model/storage.ts';
import { linearFloat8 } from '../src/ops/linear_float8/linear_float8.ts';
import { inFloat8, quantiseFloat8, toFloat8Rows } from '../src/ops/linear_float8/quantise_float8.ts';
import { Parameters } from '../src/tensor/parameters.ts';
import { scope } from '../src/tensor/scope.ts';
import { Tensor } from '../src/tensor/tensor.ts';
import { UsageError } from '../src/util/errors.ts';
import { float8Step, fromFloat8, roundToFloat8, toFloat8 } from '../src/util/float8.ts';
import { fakeCuda } from './fake_cuda.ts';
import { testedBackend, testedDevice, uniform } from './harness.ts';
import { published } from './model_configs.ts';

const backend = testedBackend();
const root = mkdtempSync(join(tmpdir(), 'fat5-float8-'));
after(() => rmSync(root, { recursive: true }));

const sizes = { d_model: 64, d_kv: 16, d_ff: 128, num_heads: 4, vocab_size: 97 };
/** `odd` has a width that float8 cannot have, so that some of its matrices stay as they are. */
const configs = {
  v1_0: { ...published.v1_0, ...sizes },
  v1_1: { ...published.v1_1, ...sizes },
  odd: { ...published.v1_1, ...sizes, d_ff: 136 },
};
before(async () => {
  for (const [name, config] of Object.entries(configs)) {
    const model = T5ForConditionalGeneration.from_config(config, { seed: 3, device: 'cpu' });
    await model.save_pretrained(join(root, name));
    model.dispose();
  }
});
const load = (name: string, dtype: 'float32' | 'bfloat16' | 'float8', device: 'cpu' | 'cuda' | 'reference') =>
  T5ForConditionalGeneration.from_pretrained(join(root, name), { dtype, device });

test('every number comes back from its bits, and what lies between goes to the nearest, ties to the even one', () => {
  const bits = Uint8Array.from({ length: 256 }, (_, b) => b).filter((b) => (b & 0x7f) !== 0x7f);
  assert.deepEqual(toFloat8(fromFloat8(bits)), bits);
  const pairs = [
    ...[0, 2 ** -9, 2 ** -6, 1, 448].map((x) => [x, x]),
    ...[
      [2 ** -10, 0],
      [1.5 * 2 ** -9, 2 ** -8],
      [1.0625, 1],
      [1.1875, 1.25],
      [-1.07, -1.125],
      [17, 16],
      [19, 20],
    ],
    ...[
      [1e9, 448],
      [-500, -448],
      [Number.POSITIVE_INFINITY, 448],
      [Number.NaN, Number.NaN],
    ],
  ];
  for (const [x, rounded] of pairs) {
    assert.equal(roundToFloat8(x!), rounded, `${x}`);
    assert.deepEqual([...fromFloat8(toFloat8([x!]))], [rounded]);
  }
  assert.deepEqual([0.001, 0.02, 1, 1.9, 300, -448].map(float8Step), [2 ** -9, 2 ** -9, 0.125, 0.125, 32, 32]);
});

test('rows of zeros, of one value, with huge and tiny numbers, infinities and NaN', async () => {
  const I = 48;
  const row = (f: (i: number) => number) => Array.from({ length: I }, (_, i) => Math.fround(f(i)));
  const rows = [
    row(() => 0),
    row(() => 3.7),
    row(() => -1e-31),
    row((i) => (i === 7 ? 3e38 : i)),
    row((i) => (i === 40 ? 1e4 : Math.sin(i))),
    row((i) => (i % 2 ? 1e-30 : -1e-30)),
    row((i) => (i === 3 ? Number.POSITIVE_INFINITY : 1)),
    row((i) => (i === 47 ? Number.NaN : 1)),
    row((i) => (i === 47 ? Number.NaN : i === 0 ? Number.NEGATIVE_INFINITY : 1)),
    row((i) => Math.sin(i)),
  ];
  const x = Tensor.from(backend, 'f32', [rows.length, I], rows.flat());
  const quantised = toFloat8Rows(x);
  const values = fromFloat8((await quantised.read()) as Uint8Array);
  const scales = await quantised.scales!.read();
  const weight = toFloat8Rows(Tensor.from(backend, 'f32', [16, I], new Float32Array(16 * I).fill(1)));
  const [y] = await Promise.all(linearFloat8(x, [weight], { type: 'f32' }).map((t) => t.read()));
  for (const [n, numbers] of rows.entries()) {
    const want = inFloat8(Float64Array.from(numbers));
    assert.deepEqual(
      [...values.subarray(n * I, (n + 1) * I)].map((v) => v + 0),
      [...want.values].map((v) => v + 0),
      `row ${n}`,
    );
    assert.equal(scales[n], Math.fround(want.scale));
    const sum = want.scale * want.values.reduce((a, b) => a + b, 0);
    for (const got of y!.slice(16 * n, 16 * n + 16))
      assert.ok(
        Object.is(got, sum) || Math.abs(got - sum) <= 1e-4 * I * Math.abs(448 * want.scale),
        `row ${n}: ${got}, expected ${sum}`,
      );
  }
  assert.deepEqual([...values.subarray(0, I)], new Array(I).fill(0));
  assert.deepEqual([...values.subarray(I, 2 * I)], new Array(I).fill(448));
});

test('a product is nearer to the exact one than the steps of its factors', async () => {
  const [N, I, O] = [33, 512, 64];
  const random = uniform(5);
  const normal = (length: number) =>
    Float32Array.from({ length }, () => Math.sqrt(-2 * Math.log(1 - random())) * Math.cos(2 * Math.PI * random()));
  const [x, w] = [normal(N * I), normal(O * I)];
  const weight = Tensor.empty(backend, 'f8', [O, I]);
  weight.scales = Tensor.empty(backend, 'f32', [O]);
  quantiseFloat8(Tensor.from(backend, 'f32', [O, I], w), weight);
  const [y] = await Promise.all(
    linearFloat8(Tensor.from(backend, 'f32', [N, I], x), [weight], { alpha: 0.5, type: 'f32' }).map((t) => t.read()),
  );
  let [difference, size] = [0, 0];
  for (let n = 0; n < N; n++)
    for (let o = 0; o < O; o++) {
      let sum = 0;
      for (let i = 0; i < I; i++) sum += x[n * I + i]! * w[o * I + i]!;
      difference += (0.5 * sum - y![n * O + o]!) ** 2;
      size += (0.5 * sum) ** 2;
    }
  const error = Math.sqrt(difference / size);
  assert.ok(error > 0.01 && error < 0.045, `${error}`); // 2^-4 / sqrt(3) = 0.036 each at most, two of them
});

const inputs = { input_ids: [[5, 9, 13, 21, 8, 30, 2, 1]], decoder_input_ids: [[0, 4, 17, 3]] };
const distance = (a: ArrayLike<number>, b: ArrayLike<number>) =>
  Math.sqrt(Array.from(a).reduce((sum, v, i) => sum + (v - b[i]!) ** 2, 0));

for (const name of Object.keys(configs))
  test(`logits of ${name} in float8 are near those of the float64 definition and of float32`, async () => {
    const models = [
      await load(name, 'float8', testedDevice),
      await load(name, 'float8', 'reference'),
      await load(name, 'float32', testedDevice),
    ];
    const [ours, defined, exact] = await Promise.all(models.map(async (m) => (await m.forward(inputs)).logits.data));
    const size = distance(exact!, new Float32Array(exact!.length));
    // A number between two of float8 may go to the other one; on a GPU the rest is in bfloat16.
    assert.ok(
      distance(ours!, defined!) < (testedDevice === 'cuda' ? 0.08 : 0.03) * size,
      `${distance(ours!, defined!) / size}`,
    );
    const cost = distance(ours!, exact!) / size;
    assert.ok(cost > 1e-3 && cost < 0.15, `${cost}`);
    for (const m of models) m.dispose();
  });

test('the matrices of the encoder are in float8, in a quarter of the memory, the decoder is not', async () => {
  const model = await load('v1_1', 'float8', testedDevice);
  const matrix = model.parameters.get('encoder.block.0.layer.1.DenseReluDense.wo.weight');
  assert.equal(matrix.dtype, 'f8');
  assert.equal(matrix.bytes, 64 * 128 + 4 * 64);
  assert.equal(model.parameters.get('decoder.block.0.layer.0.SelfAttention.q.weight').dtype, model.parameters.dtype);
  model.dispose();
});

test('an encoder alone gives a row the same states alone and in a batch', async () => {
  const model = await T5EncoderModel.from_pretrained(join(root, 'v1_1'), { dtype: 'float8', device: testedDevice });
  const sources = [
    [5, 9, 13, 21, 8, 30, 2, 1],
    [7, 3, 44, 45, 6, 12, 60, 1],
  ];
  const { last_hidden_state } = await model.encode({ input_ids: sources });
  for (const [i, ids] of sources.entries()) {
    const alone = (await model.encode({ input_ids: [ids] })).last_hidden_state.data;
    const together = last_hidden_state.data.slice(i * alone.length, (i + 1) * alone.length);
    assert.ok(distance(alone, together) <= 0.02 * distance(alone, new Float32Array(alone.length)));
  }
  model.dispose();
});

test('a float8 model writes', async () => {
  const model = await load('v1_1', 'float8', testedDevice);
  const rows = await model.generate({ input_ids: [[5, 9, 13, 1]], max_new_tokens: 9, min_new_tokens: 9 });
  assert.equal(rows[0]!.length, 10);
  model.dispose();
});

test('a float8 model is not trained, saved or begun', async () => {
  const model = await load('v1_1', 'float8', testedDevice);
  await assert.rejects(model.lossAndGradients({ input_ids: [[5, 1]], labels: [[4, 1]] }), {
    name: UsageError.name,
    message: /float8 cannot be trained/,
  });
  await assert.rejects(model.save_pretrained(join(root, 'saved')), /float8 are not saved/);
  assert.throws(
    () => T5ForConditionalGeneration.from_config(configs.v1_1, { dtype: 'float8', device: testedDevice }),
    /not made in float8/,
  );
  model.dispose();
});

test('on a GPU norms and gated activations are in float8 where they are computed, products that lie together in one launch', () => {
  const attention = 'linear_float8 attention_packed_forward quantise_float8 linear_float8_add';
  const gated = 'float8_sums gated_float8 linear_float8_add';
  const launches = (layer: 'gated' | 'relu' | 'rope') => {
    const { backend } = fakeCuda();
    const changes = {
      gated: {},
      relu: { feed_forward_proj: 'relu' },
      rope: { position_encoding_type: 'rope' },
    } as const;
    const config = t5Config({ ...configs.v1_1, num_layers: 1, ...changes[layer] });
    const { floats, compact } = storageOf('float8', parameterTable(config, 'encoder'), 'encoder', backend);
    const parameters = new Parameters(backend, 'bf16', floats, { compact });
    const names: string[] = [];
    const launch = backend.launch.bind(backend);
    backend.launch = (kernel, ...rest) => {
      names.push(kernel.name);
      launch(kernel, ...rest);
    };
    const input = uploadSource(backend, {
      rows: 1,
      columns: 8,
      values: new Int32Array(8).fill(5),
      segments: undefined,
    });
    const before = backend.usage.bytes;
    scope(
      () =>
        void encoder(encoderParameters(parameters, config, ''), input, { config, checkpointing: false, packs: true }),
    );
    assert.equal(backend.usage.bytes, before);
    return names.slice(names.indexOf('rms_norm_float8'), -1).join(' ');
  };
  const norm = 'rms_norm_float8';
  assert.equal(launches('gated'), `${norm} ${attention} ${norm} ${gated}`);
  const relu = `${norm} linear_float8 activation_forward quantise_float8 linear_float8_add`;
  assert.equal(launches('relu'), `${norm} ${attention} ${relu}`);
  const rope =
    'linear_float8 linear_float8 linear_float8 rope rope attention_forward quantise_float8 linear_float8_add';
  assert.equal(launches('rope'), `${norm} ${rope} ${norm} ${gated}`);
});

test('a GPU without float8 says so', () => {
  const { backend, driver } = fakeCuda();
  driver.device.arch = 80;
  const weight = Tensor.empty(backend, 'f8', [16, 16]);
  weight.scales = Tensor.empty(backend, 'f32', [16]);
  assert.throws(
    () => quantiseFloat8(Tensor.empty(backend, 'f32', [16, 16]), weight),
    /quantise_float8.*is for GPUs of compute capability 8.9 and newer, this one has 8.0/,
  );
});
