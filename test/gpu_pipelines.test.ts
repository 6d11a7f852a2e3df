/** Every task of `pipeline` on a GPU gives what it gives on the CPU. */
import assert from 'node:assert/strict';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { pipeline, T5EncoderModel, T5ForConditionalGeneration } from '../src/index.ts';
import { T5ForQuestionAnswering, T5ForSequenceClassification, T5ForTokenClassification } from '../src/model/heads.ts';
import { testedDevice } from './harness.ts';
import { pieces, saveTokenizer } from './lookup_model.ts';

const root = mkdtempSync(join(tmpdir(), 'fat5-gpu-pipelines-'));
after(() => rmSync(root, { recursive: true }));

const config = {
  ...{ vocab_size: pieces.length, d_model: 64, d_kv: 16, d_ff: 128, num_layers: 2, num_heads: 4 },
  ...{ feed_forward_proj: 'gated-gelu', dropout_rate: 0, pad_token_id: 0, eos_token_id: 1, decoder_start_token_id: 0 },
  task_specific_params: { translation_en_to_de: { prefix: 'who lives in ', max_length: 9 } },
};
const named = (labels: string[]) => ({
  num_labels: labels.length,
  id2label: Object.fromEntries(labels.map((label, i) => [i, label])),
});
const text = 'Ada Lovelace lives in London.';
const tasks: Record<string, (device: 'cpu' | 'cuda') => Promise<unknown>> = {
  'text2text-generation': async (device) => {
    const write = await pipeline('text2text-generation', join(root, 'write'), { device });
    const drawn = await write([text, 'New York'], { max_new_tokens: 8 });
    return [drawn, await write(text, { max_new_tokens: 6, num_beams: 3, num_return_sequences: 2 })];
  },
  summarization: async (device) =>
    (await pipeline('summarization', join(root, 'write'), { device }))(text, { max_new_tokens: 7 }),
  translation: async (device) =>
    (await pipeline('translation', join(root, 'write'), { device }))(text, { src_lang: 'en', tgt_lang: 'de' }),
  'text-classification': async (device) =>
    (await pipeline('text-classification', join(root, 'classify'), { device }))([text, 'a'], { top_k: 3 }),
  'zero-shot-classification': async (device) => {
    const options = { device };
    const trained = await pipeline('zero-shot-classification', join(root, 'classify'), options);
    const written = await pipeline('zero-shot-classification', join(root, 'write'), options);
    return [await trained(text, ['good', 'bad']), await written(text, ['good', 'bad'])];
  },
  'token-classification': async (device) =>
    (await pipeline('token-classification', join(root, 'tag'), { device }))(text, { ignore_labels: [] }),
  'question-answering': async (device) =>
    (await pipeline('question-answering', join(root, 'answer'), { device }))('where?', text),
  'feature-extraction': async (device) => {
    const embed = await pipeline('feature-extraction', join(root, 'embed'), { device });
    return Array.from((await embed([text, 'a'], { pooling: 'mean', normalize: true })).data);
  },
  'sentence-similarity': async (device) =>
    (await pipeline('sentence-similarity', join(root, 'embed'), { device }))(text, ['New York', 'London']),
};

/** Equal but for numbers, which may differ a little. */
function near(got: unknown, wanted: unknown, path: string): void {
  if (typeof got === 'number' && typeof wanted === 'number')
    assert.ok(Math.abs(got - wanted) < 1e-4, `${path}: ${got}, expected ${wanted}`);
  else if (typeof got === 'object' && typeof wanted === 'object' && got && wanted) {
    assert.deepEqual(Object.keys(got), Object.keys(wanted), path);
    for (const [key, value] of Object.entries(got))
      near(value, (wanted as Record<string, unknown>)[key], `${path}.${key}`);
  } else assert.equal(got, wanted, path);
}

describe('pipelines on a GPU', { skip: testedDevice !== 'cuda' && 'FAT5_DEVICE is not cuda' }, () => {
  before(async () => {
    const labels = ['contradiction', 'neutral', 'entailment'];
    const made = { device: 'cpu', seed: 6 } as const;
    const models = {
      write: T5ForConditionalGeneration.from_config(config, made),
      classify: T5ForSequenceClassification.from_config({ ...config, ...named(labels) }, made),
      tag: T5ForTokenClassification.from_config({ ...config, ...named(['O', 'B-PER', 'I-PER']) }, made),
      answer: T5ForQuestionAnswering.from_config(config, made),
      embed: T5EncoderModel.from_config(config, made),
    };
    for (const [name, model] of Object.entries(models)) {
      saveTokenizer(join(root, name));
      await model.save_pretrained(join(root, name));
      model.dispose();
    }
  });
  for (const [task, run] of Object.entries(tasks))
    test(`${task} gives what it gives on the CPU`, async () => near(await run('cuda'), await run('cpu'), task));
});
