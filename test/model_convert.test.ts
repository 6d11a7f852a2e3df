import assert from 'node:assert/strict';
import { copyFileSync, mkdirSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, describe, test } from 'node:test';
import type { T5ConfigInput } from '../src/model/config.ts';
import { convertModel } from '../src/model/convert.ts';
import { flashT5Name } from '../src/model/flasht5_names.ts';
import { T5ForTokenClassification } from '../src/model/heads.ts';
import { openSafetensors } from '../src/model/safetensors.ts';
import { T5ForConditionalGeneration } from '../src/model/t5.ts';
import { published } from './model_configs.ts';

const folder = mkdtempSync(join(tmpdir(), 'fat5-convert-'));
after(() => rmSync(folder, { recursive: true }));
const at = (name: string) => join(folder, name);
const batch = { input_ids: [[5, 6, 7, 1]], labels: [[8, 9, 1]] };

async function saved(name: string, config: T5ConfigInput = published.v1_1): Promise<T5ForConditionalGeneration> {
  const model = T5ForConditionalGeneration.from_config(config, { device: 'cpu', seed: 7 });
  await model.save_pretrained(at(name));
  return model;
}

test("names are flashT5's", () => {
  const names: [string, string][] = [
    ['shared.weight', 'shared.weight'],
    ['encoder.block.1.layer.0.SelfAttention.q.weight', 'encoder.block.1.self_attention_layer.self_attention.Wq.weight'],
    ['encoder.block.0.layer.0.SelfAttention.o.weight', 'encoder.block.0.self_attention_layer.self_attention.o.weight'],
    [
      'decoder.block.0.layer.0.SelfAttention.relative_attention_bias.weight',
      'decoder.block.0.self_attention_layer.self_attention.pe_encoding.relative_attention_bias.weight',
    ],
    [
      'decoder.block.2.layer.1.EncDecAttention.v.weight',
      'decoder.block.2.cross_attention_layer.cross_attention.Wv.weight',
    ],
    [
      'decoder.block.2.layer.1.EncDecAttention.o.weight',
      'decoder.block.2.cross_attention_layer.cross_attention.o.weight',
    ],
    ['encoder.block.3.layer.0.layer_norm.weight', 'encoder.block.3.self_attention_layer.layer_norm.weight'],
    ['encoder.block.3.layer.1.layer_norm.weight', 'encoder.block.3.ff_layer.layer_norm.weight'],
    ['decoder.block.3.layer.1.layer_norm.weight', 'decoder.block.3.cross_attention_layer.layer_norm.weight'],
    ['decoder.block.3.layer.2.layer_norm.weight', 'decoder.block.3.ff_layer.layer_norm.weight'],
    ['encoder.block.3.layer.1.DenseReluDense.wi_0.weight', 'encoder.block.3.ff_layer.act.wi_0.weight'],
    ['decoder.block.3.layer.2.DenseReluDense.wo.weight', 'decoder.block.3.ff_layer.wo.weight'],
    ['decoder.final_layer_norm.weight', 'decoder.final_layer_norm.weight'],
  ];
  for (const [name, expected] of names) assert.equal(flashT5Name(name), expected);
});

describe('a converted model', () => {
  test("has the same logits under flashT5's names, and the same bytes on the way back", async () => {
    const model = await saved('hf');
    const { logits } = await model.forward(batch);
    await convertModel(at('hf'), at('flash'), { format: 'flasht5', dtype: 'keep' });
    const config = JSON.parse(readFileSync(at('flash/config.json'), 'utf8'));
    assert.deepEqual(
      [config.model_type, config.use_glu_mlp, config.attention_scale, config.tie_word_embeddings],
      ['flash_t5', true, 1, false],
    );
    const names = [...openSafetensors(at('flash/model.safetensors')).entries.keys()];
    assert.ok(
      names.every((name) => !/SelfAttention|DenseRelu|layer\.\d/.test(name)),
      String(names),
    );
    const again = await T5ForConditionalGeneration.from_pretrained(at('flash'), { device: 'cpu' });
    assert.deepEqual((await again.forward(batch)).logits.data, logits.data);
    await convertModel(at('flash'), at('back'), { format: 'huggingface', dtype: 'keep' });
    const [a, b] = ['hf', 'back'].map((name) => openSafetensors(at(`${name}/model.safetensors`)));
    assert.deepEqual([...b!.entries.keys()].sort(), [...a!.entries.keys()].sort());
    for (const name of a!.entries.keys()) assert.deepEqual(b!.readBytes(name), a!.readBytes(name), name);
  });

  test('is half as large in bfloat16 and float16, rounded to nearest', async () => {
    const model = await saved('wide');
    for (const [dtype, unit] of [
      ['bfloat16', 2 ** -8],
      ['float16', 2 ** -11],
    ] as const) {
      await convertModel(at('wide'), at(dtype), { format: 'huggingface', dtype });
      const narrow = openSafetensors(at(`${dtype}/model.safetensors`));
      const wanted = (await model.parameters.get('shared.weight').read()) as Float32Array;
      narrow.readFloats('shared.weight').forEach((value, i) => {
        assert.ok(Math.abs(value - wanted[i]!) <= unit * Math.abs(wanted[i]!) + 2 ** -25, `${value} for ${wanted[i]}`);
      });
      narrow.close();
    }
  });

  test("of another class names it, and config.json's fractions have a point", async () => {
    const classifier = T5ForTokenClassification.from_config({ ...published.v1_1, num_labels: 3 }, { device: 'cpu' });
    await classifier.save_pretrained(at('tokens'));
    await convertModel(at('tokens'), at('tokens2'), { format: 'huggingface', dtype: 'keep' });
    const text = readFileSync(at('tokens2/config.json'), 'utf8');
    assert.deepEqual(JSON.parse(text).architectures, ['T5ForTokenClassification']);
    assert.match(text, /"initializer_factor": 1\.0,/);
    assert.match(text, /"dropout_rate": 0\.0,/);
  });

  test('is refused where flashT5 has no such model, and nothing is written', async () => {
    await saved('tied', published.v1_1_tied);
    await assert.rejects(
      convertModel(at('tied'), at('no'), { format: 'flasht5', dtype: 'keep' }),
      /its head is never tied/,
    );
    assert.throws(() => readFileSync(at('no/config.json')));
  });

  test('is refused where a tensor does not fit the configuration', async () => {
    await saved('one');
    await saved('other', { ...published.v1_1, d_ff: 24 });
    mkdirSync(at('mixed'));
    copyFileSync(at('one/config.json'), at('mixed/config.json'));
    copyFileSync(at('other/model.safetensors'), at('mixed/model.safetensors'));
    await assert.rejects(
      convertModel(at('mixed'), at('never'), { format: 'huggingface', dtype: 'keep' }),
      /wi_0\.weight is \[24,16\], expected \[20,16\] by config\.json/,
    );
  });
});
