/** Weights that are used where their file is mapped: no copy, the same results, and files that change underneath. */
import assert from 'node:assert/strict';
import { mkdtempSync, readFileSync, renameSync, rmSync, truncateSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { openCpu } from '../src/backend/cpu/cpu.ts';
import { T5ForConditionalGeneration } from '../src/index.ts';
import type { ModelDtype } from '../src/model/storage.ts';
import { BackendError } from '../src/util/errors.ts';
import { published } from './model_configs.ts';

const backend = openCpu();
const root = mkdtempSync(join(tmpdir(), 'fat5-mapped-'));
after(() => rmSync(root, { recursive: true }));

const config = { ...published.v1_1, d_model: 64, d_kv: 16, d_ff: 128, num_heads: 4, vocab_size: 97 };
const inputs = { input_ids: [[5, 9, 13, 21, 8, 30, 2, 1]], decoder_input_ids: [[0, 4, 17, 3]] };

/** A folder with new weights, its model as it was made, and how to open it. */
async function saved(name: string, dtype: ModelDtype = 'float32') {
  const folder = join(root, name);
  const made = T5ForConditionalGeneration.from_config(config, { device: 'cpu', seed: 4, dtype });
  await made.save_pretrained(folder);
  const open = (as: ModelDtype = dtype) =>
    T5ForConditionalGeneration.from_pretrained(folder, { device: 'cpu', dtype: as });
  return { file: join(folder, 'model.safetensors'), made, open };
}
const logits = async (model: T5ForConditionalGeneration) => (await model.forward(inputs)).logits.data;

for (const dtype of ['float32', 'bfloat16'] as const)
  test(`a ${dtype} model uses the file's own memory and gives the same bits`, async () => {
    const { made, open } = await saved(dtype, dtype);
    const before = backend.usage.bytes;
    const model = await open();
    const own = [...model.parameters.all.values()].filter(({ length }) => length < 4096);
    const small = own.reduce((sum, { bytes }) => sum + Math.ceil(bytes / 128) * 128, 0); // norms and biases are copied
    assert.ok(backend.usage.bytes - before <= small + 256, `${backend.usage.bytes - before} bytes were allocated`);
    assert.deepEqual(await logits(model), await logits(made));
    model.dispose();
    assert.equal(backend.usage.bytes, before);
    made.dispose();
  });

test('a model that was mapped trains as one that was not, and leaves its file alone', async () => {
  const { file, made, open } = await saved('trained');
  const bytes = readFileSync(file);
  const model = await open();
  const batch = { input_ids: [[5, 9, 1]], labels: [[4, 17, 1]] };
  const [ours, theirs] = [await model.lossAndGradients(batch), await made.lossAndGradients(batch)];
  assert.equal(ours.loss, theirs.loss);
  for (const [name, { data }] of Object.entries(theirs.gradients))
    assert.deepEqual(ours.gradients[name]!.data, data, name);
  assert.deepEqual(await model.parameters.values.read(), await made.parameters.values.read());
  model.parameters.values.write(new Float32Array(model.parameters.values.length));
  assert.deepEqual(readFileSync(file), bytes);
  model.dispose();
  made.dispose();
});

test('what is written to a mapped parameter changes the model and not its file', async () => {
  const { file, made, open } = await saved('written');
  const bytes = readFileSync(file);
  const model = await open();
  const name = 'encoder.final_layer_norm.weight';
  for (const m of [model, made]) m.parameters.get(name).write(new Float32Array(64).fill(0.25));
  const changed = await logits(model);
  assert.deepEqual(changed, await logits(made));
  assert.deepEqual([...(await model.parameters.values.read())], [...(await made.parameters.values.read())]);
  assert.deepEqual(readFileSync(file), bytes);
  const again = await open();
  assert.notDeepEqual(await logits(again), changed);
  for (const m of [model, made, again]) m.dispose();
});

test('short texts have the same states however often they come, also when the parameters have moved', async () => {
  const { made, open } = await saved('again');
  const model = await open();
  const call = { input_ids: [[5, 9, 13, 1]] };
  const other = { input_ids: [[7, 8, 3, 1]] };
  const states = async (of: T5ForConditionalGeneration, what = call) => (await of.encode(what)).last_hidden_state.data;
  const [first, another] = [await states(made), await states(made, other)];
  for (let time = 0; time < 4; time++) {
    assert.deepEqual(await states(model), first);
    assert.deepEqual(await states(model, other), another);
    if (time === 2) await model.parameters.values.read();
  }
  model.parameters.values.write(new Float32Array(model.parameters.values.length));
  assert.notDeepEqual(await states(model), first);
  for (const m of [model, made]) m.dispose();
});

test('types that differ from the file are converted on the way', async () => {
  for (const [stored, wanted] of [
    ['bfloat16', 'float32'],
    ['float32', 'bfloat16'],
  ] as const) {
    const { made, open } = await saved(`${stored}-${wanted}`, stored);
    const model = await open(wanted);
    const [name, tensor] = [...model.parameters.all][5]!;
    const rounded = await T5ForConditionalGeneration.from_config(config, { device: 'cpu', seed: 4, dtype: 'bfloat16' });
    const expected = await rounded.parameters.get(name).read();
    const found = Uint16Array.from(
      wanted === 'bfloat16'
        ? await tensor.read()
        : new Uint32Array((await tensor.read()).buffer as ArrayBuffer).map((bits) => bits >>> 16),
    );
    assert.deepEqual(found, expected);
    for (const m of [made, model, rounded]) m.dispose();
  }
});

test('float16 weights give the bits of float32 weights of the same values, from half the memory', async () => {
  const { made, open } = await saved('half');
  const exact = await logits(made);
  const half = await open('float16');
  assert.equal(half.parameters.get('shared.weight').dtype, 'f16');
  assert.equal(half.parameters.get('encoder.final_layer_norm.weight').dtype, 'f32');
  const expected = await logits(half);
  const difference = Math.max(...expected.map((x, i) => Math.abs(x - exact[i]!)));
  assert.ok(difference > 0 && difference < 0.01, `${difference}`);
  const folder = join(root, 'half-saved');
  await half.save_pretrained(folder);
  const before = backend.usage.bytes;
  for (const dtype of ['float16', 'float32'] as const) {
    const again = await T5ForConditionalGeneration.from_pretrained(folder, { device: 'cpu', dtype });
    if (dtype === 'float16') assert.ok(backend.usage.bytes - before <= 8192, 'used where it is mapped');
    assert.deepEqual(await logits(again), expected, dtype);
    const request = { ...inputs, decoder_input_ids: [[0]], max_new_tokens: 9, min_new_tokens: 9 };
    assert.deepEqual(await again.generate(request), await half.generate(request));
    again.dispose();
  }
  await assert.rejects(half.lossAndGradients({ input_ids: [[5, 1]], labels: [[4, 1]] }), /float16 cannot be trained/);
  half.dispose();
  made.dispose();
});

test('a tensor that two parameters read is in memory once, until the model is trained', async () => {
  const { made, open } = await saved('shared');
  const folder = join(root, 'shared');
  const config = JSON.parse(readFileSync(join(folder, 'config.json'), 'utf8')) as object;
  writeFileSync(join(folder, 'config.json'), JSON.stringify({ ...config, share_input_embeddings: false }));
  for (const dtype of ['float32', 'bfloat16', 'float16'] as const) {
    const model = await open(dtype);
    const [ours, theirs] = ['encoder', 'decoder'].map((s) => model.parameters.get(`${s}.embed_tokens.weight`));
    assert.equal(ours!.memory, theirs!.memory);
    if (dtype === 'float32') {
      assert.deepEqual(await logits(model), await logits(made));
      const { gradients } = await model.lossAndGradients({ input_ids: [[5, 9, 1]], labels: [[4, 17, 1]] });
      assert.notEqual(ours!.memory, theirs!.memory);
      assert.notDeepEqual(ours!.grad, theirs!.grad);
      assert.ok(gradients['encoder.embed_tokens.weight'] ?? gradients['shared.weight']);
    }
    model.dispose();
  }
  made.dispose();
});

test('a file that is replaced under a model does not change it', async () => {
  const { file, made, open } = await saved('replaced');
  const model = await open();
  const other = readFileSync(file);
  writeFileSync(`${file}.new`, other.fill(0, other.length - 20_000));
  renameSync(`${file}.new`, file);
  assert.deepEqual(await logits(model), await logits(made));
  model.dispose();
  made.dispose();
});

test('a file that is cut short under a model is an error, and no crash', async () => {
  const { file, made, open } = await saved('cut');
  const expected = await logits(made);
  const model = await open();
  const whole = readFileSync(file);
  truncateSync(file, 10_000);
  await assert.rejects(logits(model), { name: BackendError.name, message: /cut short/ });
  model.dispose();
  assert.deepEqual(await logits(made), expected, 'others go on once the model is gone');
  made.dispose();
  await assert.rejects(open(), /the file has/);
  writeFileSync(file, whole);
  const again = await open();
  assert.deepEqual(await logits(again), expected);
  again.dispose();
});
