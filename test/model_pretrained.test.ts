/** Saving, loading and initialising models. */
import assert from 'node:assert/strict';
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { T5EncoderModel, T5ForConditionalGeneration, T5ForTokenClassification } from '../src/index.ts';
import { openSafetensors } from '../src/model/safetensors.ts';
import { type TensorToWrite, writeSafetensors } from '../src/model/safetensors_write.ts';
import { relativeBucket } from '../src/ops/relative_bias/relative_bias.ts';
import { FormatError, UsageError } from '../src/util/errors.ts';
import { positional, published } from './model_configs.ts';

const root = mkdtempSync(join(tmpdir(), 'fat5-model-'));
after(() => rmSync(root, { recursive: true }));
const input = { input_ids: [[5, 9, 13, 1]], labels: [[4, 1]] };

async function values(model: { parameters: T5ForConditionalGeneration['parameters'] }, name: string) {
  return (await model.parameters.get(name).read()) as Float32Array;
}

/** Copies a saved model's tensors under other names, or leaves them out where the name is undefined. */
async function copyWeights(from: string, to: string, rename: (name: string) => string[]): Promise<void> {
  const file = openSafetensors(join(from, 'model.safetensors'));
  const tensors = [...file.entries].flatMap(([name, { dtype, shape }]) =>
    rename(name).map(
      (other): TensorToWrite => ({
        name: other,
        dtype,
        shape,
        read: async (start, count) => file.readBytes(name, start, count),
      }),
    ),
  );
  mkdirSync(to, { recursive: true });
  await writeSafetensors(join(to, 'model.safetensors'), tensors);
  writeFileSync(join(to, 'config.json'), readFileSync(join(from, 'config.json')));
  file.close();
}

for (const dtype of ['float32', 'bfloat16'] as const)
  test(`a saved ${dtype} model loads with the same logits and configuration`, async () => {
    for (const [name, config] of Object.entries({ ...published, ...positional })) {
      const folder = join(root, dtype, name);
      const model = T5ForConditionalGeneration.from_config(config, { dtype, seed: 1 });
      await model.save_pretrained(folder);
      assert.deepEqual(readdirSync(folder).sort(), ['config.json', 'model.safetensors']);
      const loaded = await T5ForConditionalGeneration.from_pretrained(folder, { dtype });
      const { transformers_version: _, ...kept } = loaded.config as Record<string, unknown>;
      for (const [key, value] of Object.entries(model.config))
        if (key !== 'model_type') assert.deepEqual(kept[key], value, key);
      assert.deepEqual((await loaded.forward(input)).logits.data, (await model.forward(input)).logits.data);
      for (const m of [model, loaded]) m.dispose();
    }
  });

test('the same seed gives the same values whatever else the model has, another seed others', async () => {
  const make = (seed: number, change = {}) =>
    T5ForConditionalGeneration.from_config({ ...published.v1_1, ...change }, { seed });
  const name = 'encoder.block.0.layer.1.DenseReluDense.wo.weight';
  const [a, b, c] = [make(5), make(5, { num_decoder_layers: 1 }), make(6)];
  assert.deepEqual(await values(a, name), await values(b, name));
  assert.notDeepEqual(await values(a, name), await values(c, name));
  assert.notDeepEqual(await values(a, name), await values(a, name.replace('block.0', 'block.1')));
});

test('new parameters have their distributions', async () => {
  const config = { ...published.v1_1, d_model: 64, d_ff: 256, vocab_size: 500 };
  const model = T5ForConditionalGeneration.from_config(config, { seed: 2 });
  const check = async (name: string, std: number) => {
    const v = await values(model, name);
    const mean = v.reduce((s, x) => s + x, 0) / v.length;
    const variance = v.reduce((s, x) => s + (x - mean) ** 2, 0) / v.length;
    const fourth = v.reduce((s, x) => s + (x - mean) ** 4, 0) / v.length / variance ** 2;
    assert.ok(Math.abs(mean) < (4 * std) / Math.sqrt(v.length), `${name}: mean ${mean}`);
    assert.ok(Math.abs(Math.sqrt(variance) / std - 1) < 0.03, `${name}: deviation ${Math.sqrt(variance)}, not ${std}`);
    assert.ok(Math.abs(fourth - 3) < 0.3, `${name}: kurtosis ${fourth}, a normal has 3`);
  };
  await check('shared.weight', 1);
  await check('lm_head.weight', 1 / 8);
  await check('encoder.block.0.layer.1.DenseReluDense.wo.weight', 1 / 16);
  await check('decoder.block.1.layer.2.DenseReluDense.wi_0.weight', 1 / 8);
  assert.deepEqual([...new Set(await values(model, 'encoder.final_layer_norm.weight'))], [1]);
});

test('a few initial values, the same on every machine', async () => {
  const model = T5ForConditionalGeneration.from_config(published.v1_1, { seed: 0 });
  const first = Array.from((await values(model, 'shared.weight')).subarray(0, 4), (v) => v.toFixed(6));
  assert.deepEqual(first, ['0.553675', '1.168141', '0.142996', '-0.505654']);
});

test('aligned attention starts with half of the heads at one neighbour each, and with queries along the keys across', async () => {
  const config = { ...published.v1_1, num_heads: 5, relative_attention_num_buckets: 16 };
  const aligned = { ...config, attention_init: 'aligned' as const };
  const [plain, raised] = [config, aligned].map((c) => T5ForConditionalGeneration.from_config(c, { seed: 3 }));
  /** [relative position, head] of what is 8 higher. */
  const places = async (stack: 'encoder' | 'decoder') => {
    const name = `${stack}.block.0.layer.0.SelfAttention.relative_attention_bias.weight`;
    const [from, to] = [await values(plain!, name), await values(raised!, name)];
    const higher = Array.from(to, (v, i) => v - from[i]!);
    assert.ok(higher.every((v) => v === 0 || Math.abs(v - 8) < 1e-6));
    const options = { bidirectional: stack === 'encoder', maxDistance: 128 };
    return [-3, -2, -1, 0, 1, 2, 3].flatMap((relative) => {
      const bucket = relativeBucket(relative, 16, options);
      return Array.from({ length: 5 }, (_, head) => [relative, head]).filter(([, h]) => higher[bucket * 5 + h!] !== 0);
    });
  };
  assert.deepEqual(await places('encoder'), [
    [-2, 2],
    [-1, 0],
    [1, 1],
  ]);
  assert.deepEqual(await places('decoder'), [
    [-3, 2],
    [-2, 1],
    [-1, 0],
  ]);
  for (const name of ['shared.weight', 'encoder.block.0.layer.0.SelfAttention.q.weight'])
    assert.deepEqual(await values(raised!, name), await values(plain!, name));
  const across = 'decoder.block.1.layer.1.EncDecAttention';
  const keys = await values(raised!, `${across}.k.weight`);
  assert.deepEqual(keys, await values(plain!, `${across}.k.weight`));
  const ratio = config.d_kv ** -0.5;
  for (const [i, q] of (await values(raised!, `${across}.q.weight`)).entries())
    assert.ok(Math.abs(q - ratio * keys[i]!) <= 1e-6 * Math.abs(q), `q ${q}, k ${keys[i]}`);
  const wide = T5ForConditionalGeneration.from_config({ ...aligned, num_heads: 64 });
  const table = await values(wide, 'encoder.block.0.layer.0.SelfAttention.relative_attention_bias.weight');
  assert.equal(table.filter((v) => v > 4).length, 32, 'more heads than distances share them');
  for (const model of [plain!, raised!, wide]) model.dispose();
});

test('a head that differs from the embedding is kept, whatever the configuration says; a copy is tied', async () => {
  const own = join(root, 'own');
  const model = T5ForConditionalGeneration.from_config(published.v1_1, { seed: 1 });
  await model.save_pretrained(own);
  const config = JSON.parse(readFileSync(join(own, 'config.json'), 'utf8'));
  writeFileSync(join(own, 'config.json'), JSON.stringify({ ...config, tie_word_embeddings: true }));
  const untied = await T5ForConditionalGeneration.from_pretrained(own);
  assert.equal(untied.config.tie_word_embeddings, false);
  assert.deepEqual((await untied.forward(input)).logits.data, (await model.forward(input)).logits.data);

  const copied = join(root, 'copied');
  const tied = T5ForConditionalGeneration.from_config(published.v1_0, { seed: 1 });
  await tied.save_pretrained(join(root, 'tied'));
  const aliases = ['lm_head.weight', 'encoder.embed_tokens.weight', 'decoder.embed_tokens.weight'];
  await copyWeights(join(root, 'tied'), copied, (name) => (name === 'shared.weight' ? [name, ...aliases] : [name]));
  const loaded = await T5ForConditionalGeneration.from_pretrained(copied);
  assert.equal(loaded.config.tie_word_embeddings, true);
  assert.ok(!loaded.parameters.has('lm_head.weight'));
  assert.deepEqual((await loaded.forward(input)).logits.data, (await tied.forward(input)).logits.data);
});

test('stacks whose embeddings differ in the file do not share one, as transformers 5 leaves them', async () => {
  const config = { ...published.v1_1, share_input_embeddings: false };
  const model = T5ForConditionalGeneration.from_config(config, { seed: 1 });
  const folder = join(root, 'apart');
  await model.save_pretrained(join(root, 'separate'));
  await copyWeights(join(root, 'separate'), folder, (name) =>
    name === 'decoder.embed_tokens.weight' ? [name, 'shared.weight'] : [name],
  );
  const { share_input_embeddings: _, ...others } = JSON.parse(readFileSync(join(folder, 'config.json'), 'utf8'));
  writeFileSync(join(folder, 'config.json'), JSON.stringify({ ...others, model_type: 't5' }));
  const loaded = await T5ForConditionalGeneration.from_pretrained(folder);
  assert.equal(loaded.config.share_input_embeddings, false);
  assert.deepEqual((await loaded.forward(input)).logits.data, (await model.forward(input)).logits.data);
  const { gradients } = await loaded.lossAndGradients(input);
  assert.ok('encoder.embed_tokens.weight' in gradients && 'decoder.embed_tokens.weight' in gradients);

  // Both stacks begin with the one embedding of a file that transformers 5 saved without ties.
  const one = join(root, 'one');
  const shared = T5ForConditionalGeneration.from_config(published.v1_1, { seed: 1 });
  await shared.save_pretrained(one);
  const saved = JSON.parse(readFileSync(join(one, 'config.json'), 'utf8'));
  writeFileSync(join(one, 'config.json'), JSON.stringify({ ...saved, transformers_version: '5.18.0' }));
  const split = await T5ForConditionalGeneration.from_pretrained(one);
  assert.deepEqual((await split.forward(input)).logits.data, (await shared.forward(input)).logits.data);
  const [whole, parts] = [await shared.lossAndGradients(input), await split.lossAndGradients(input)];
  const [encoder, decoder] = ['encoder', 'decoder'].map((s) => parts.gradients[`${s}.embed_tokens.weight`]!.data);
  const sum = whole.gradients['shared.weight']!.data;
  assert.ok(sum.every((g, i) => Math.abs(g - encoder![i]! - decoder![i]!) < 1e-6));
  assert.ok(sum.every((g, i) => Math.abs(g - parts.gradients['shared.weight']!.data[i]!) < 1e-6));
});

test('a pre-trained encoder begins a classifier, whose head is new and seeded', async () => {
  const folder = join(root, 'backbone');
  const model = T5ForConditionalGeneration.from_config(published.v1_1, { seed: 1 });
  await model.save_pretrained(folder);
  const bare = await T5EncoderModel.from_pretrained(folder);
  const classifier = await T5ForTokenClassification.from_pretrained(folder, { seed: 3 });
  const want = (await model.encode(input)).last_hidden_state.data;
  assert.deepEqual((await bare.forward(input)).last_hidden_state.data, want);
  assert.deepEqual((await classifier.encode(input)).last_hidden_state.data, want);
  assert.ok((await values(classifier, 'classifier.weight')).some((v) => v !== 0));
  const saved = join(root, 'classifier');
  await classifier.save_pretrained(saved);
  const again = await T5ForTokenClassification.from_pretrained(saved, { seed: 4 });
  const { input_ids } = input;
  assert.deepEqual(
    (await again.forward({ input_ids })).logits.data,
    (await classifier.forward({ input_ids })).logits.data,
  );
});

test('an embedding under the name of a stack is found', async () => {
  const folder = join(root, 'alias');
  const model = T5EncoderModel.from_config(published.v1_1, { seed: 1 });
  await model.save_pretrained(join(root, 'bare'));
  await copyWeights(join(root, 'bare'), folder, (name) => [name.replace('shared', 'encoder.embed_tokens')]);
  const loaded = await T5EncoderModel.from_pretrained(folder);
  assert.deepEqual(
    (await loaded.encode(input)).last_hidden_state.data,
    (await model.encode(input)).last_hidden_state.data,
  );
});

test('what is missing or does not fit is one clear line, and nothing leaks', async () => {
  const folder = join(root, 'broken');
  const model = T5ForConditionalGeneration.from_config(published.v1_1, { seed: 1 });
  await model.save_pretrained(folder);
  const { bytes } = model.backend.usage;
  const load = () => T5ForConditionalGeneration.from_pretrained(folder);
  const config = readFileSync(join(folder, 'config.json'), 'utf8');

  await copyWeights(folder, join(root, 'less'), (name) => (name.includes('wi_0') ? [] : [name]));
  await assert.rejects(
    T5ForConditionalGeneration.from_pretrained(join(root, 'less')),
    (e: Error) =>
      e instanceof FormatError && /no tensor "encoder\.block\.0.*wi_0\.weight", expected \[20,16\]/.test(e.message),
  );
  writeFileSync(join(folder, 'config.json'), JSON.stringify({ ...JSON.parse(config), d_ff: 24 }));
  await assert.rejects(
    load(),
    (e: Error) => e instanceof FormatError && /is \[20,16\], expected \[24,16\]/.test(e.message),
  );
  writeFileSync(join(folder, 'config.json'), '{"d_model": ');
  await assert.rejects(load(), (e: Error) => e instanceof FormatError && /config\.json: is not JSON/.test(e.message));
  writeFileSync(join(folder, 'config.json'), JSON.stringify({ ...JSON.parse(config), d_model: 0 }));
  await assert.rejects(load(), (e: Error) => e instanceof UsageError && /d_model is 0/.test(e.message));
  writeFileSync(join(folder, 'config.json'), config);
  const weights = join(folder, 'model.safetensors');
  writeFileSync(weights, readFileSync(weights).subarray(0, 3000));
  await assert.rejects(load(), (e: Error) => e instanceof FormatError && e.message.startsWith(weights));
  rmSync(weights);
  await assert.rejects(load(), (e: Error) => e instanceof UsageError && /has no weights/.test(e.message));
  await assert.rejects(
    T5ForConditionalGeneration.from_pretrained(join(root, 'nowhere')),
    (e: Error) => e instanceof UsageError && /nowhere: not found, expected a folder or a name/.test(e.message),
  );
  await assert.rejects(
    T5ForConditionalGeneration.from_pretrained(root),
    (e: Error) =>
      e instanceof UsageError && /config\.json: not found, expected a model's folder; of a run/.test(e.message),
  );
  assert.equal(model.backend.usage.bytes, bytes);
  assert.throws(() => T5ForConditionalGeneration.from_config({}, { device: 'tpu' as never }), /device: is "tpu"/);
  assert.throws(() => T5ForConditionalGeneration.from_config({}, { dtype: 'fp8' as never }), /dtype: is "fp8"/);
  assert.throws(() => T5ForConditionalGeneration.from_config({}, { seed: 0.5 }), /seed: is 0.5/);
  await assert.rejects(model.save_pretrained('/dev/null/x'), UsageError);
});
