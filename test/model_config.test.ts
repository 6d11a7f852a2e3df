import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { feedForwardKind, savedConfig, t5Config, t5ConfigFields } from '../src/model/config.ts';
import { type Architecture, parameterCount, parameterTable } from '../src/model/parameter_table.ts';
import { UsageError } from '../src/util/errors.ts';

/** What Hugging Face's config.json of google/t5-v1_1-small says, as far as it matters here. */
const v1_1 = { model_type: 't5', feed_forward_proj: 'gated-gelu', tie_word_embeddings: false } as const;

test('defaults are those of the model type', () => {
  const t5 = t5Config({ model_type: 't5' });
  assert.deepEqual(
    [t5.feed_forward_proj, t5.tie_word_embeddings, t5.scale_decoder_outputs, t5.attention_scale],
    ['relu', true, true, 1],
  );
  for (const model_type of ['mt5', 'umt5'] as const) {
    const c = t5Config({ model_type });
    assert.deepEqual([c.feed_forward_proj, c.tie_word_embeddings], ['gated-gelu', false]);
    assert.equal(c.scale_decoder_outputs, false);
    assert.equal(c.per_layer_position_bias, model_type === 'umt5');
  }
  assert.equal(t5Config({ num_layers: 4 }).num_decoder_layers, 4);
  assert.equal(t5Config({ num_layers: 4, num_decoder_layers: 2 }).num_decoder_layers, 2);
});

test('a tied head is scaled unless the configuration says otherwise', () => {
  assert.equal(t5Config({}).scale_decoder_outputs, true);
  assert.equal(t5Config({ tie_word_embeddings: true, scale_decoder_outputs: false }).scale_decoder_outputs, false);
  assert.equal(t5Config(v1_1).scale_decoder_outputs, false);
});

test('gated-gelu means the tanh form, gelu alone the exact one', () => {
  const kind = (feed_forward_proj: string) => feedForwardKind(t5Config({ feed_forward_proj }));
  assert.deepEqual(kind('gated-gelu'), { gated: true, activation: 'gelu_new' });
  assert.deepEqual(kind('gelu'), { gated: false, activation: 'gelu' });
  assert.deepEqual(kind('relu'), { gated: false, activation: 'relu' });
  assert.deepEqual(kind('gated-silu'), { gated: true, activation: 'silu' });
});

test('unknown keys are kept and written back, ours only when they say something', () => {
  const saved = savedConfig(t5Config({ ...v1_1, task_specific_params: { a: 1 }, rotary_base: 10000 }));
  assert.deepEqual(saved.task_specific_params, { a: 1 });
  assert.ok(!('rotary_base' in saved) && !('attention_scale' in saved) && !('id2label' in saved));
  assert.equal(saved.dense_act_fn, 'gelu_new');
  assert.deepEqual(savedConfig(t5Config(saved)), saved);
});

test('what Hugging Face cannot compute is not saved as its model type', () => {
  assert.equal(savedConfig(t5Config(v1_1)).model_type, 't5');
  assert.equal(savedConfig(t5Config({ model_type: 'umt5' })).model_type, 'umt5');
  for (const change of [
    { position_encoding_type: 'rope' },
    { attention_scale: 0.125 },
    { per_layer_position_bias: true },
  ]) {
    const saved = savedConfig(t5Config({ ...v1_1, ...change }));
    assert.equal(saved.model_type, 'fat5');
    assert.deepEqual(savedConfig(t5Config(saved)), saved);
  }
});

test("FAT5's spellings are understood", () => {
  const c = t5Config({ position_encoding_type: 'ALiBi', alibi_mode: 'asymetric' });
  assert.deepEqual([c.position_encoding_type, c.alibi_mode], ['alibi', 'asymmetric']);
});

test('impossible values name the field, the value and the source', () => {
  const bad: [object, RegExp][] = [
    [{ d_model: -1 }, /^x\.json: d_model is -1, expected a positive integer up to 2147483647$/],
    [{ num_layers: 1e9 }, /num_layers is 1000000000, expected a positive integer up to 4096/],
    [{ d_ff: 1.5 }, /d_ff is 1.5/],
    [{ num_heads: '8' }, /num_heads is "8"/],
    [{ dropout_rate: 1 }, /dropout_rate is 1, expected a number in \[0, 1\)/],
    [{ feed_forward_proj: 'gated-tanh' }, /feed_forward_proj is "gated-tanh"/],
    [{ model_type: 'bart' }, /model_type is "bart", expected one of "t5"/],
    [{ position_encoding_type: 'sinus' }, /position_encoding_type is "sinus"/],
    [{ eos_token_id: 32128 }, /eos_token_id is 32128, expected less than vocab_size 32128/],
    [{ position_encoding_type: 'rope', d_kv: 5 }, /rotates 5 values/],
    [{ position_encoding_type: 'alibi', alibi_mode: 'asymmetric', num_heads: 3 }, /even num_heads/],
    [{ relative_attention_num_buckets: 7 }, /relative_attention_num_buckets is 7/],
    [{ relative_attention_max_distance: 16 }, /relative_attention_max_distance is 16/],
    [{ share_input_embeddings: false }, /tie_word_embeddings is true, but share_input_embeddings is false/],
    [{ id2label: { 0: 'a' }, num_labels: 3 }, /num_labels is 3, but id2label has 1/],
  ];
  for (const [config, message] of bad)
    assert.throws(
      () => t5Config(config, 'x.json'),
      (error: Error) => error instanceof UsageError && message.test(error.message),
      JSON.stringify(config),
    );
  assert.throws(() => t5Config([1], 'x.json'), /x\.json is \[1\], expected an object/);
});

test('no JSON whatever crashes the configuration', () => {
  const values = fc.oneof(fc.jsonValue({ maxDepth: 2 }), fc.double(), fc.integer());
  const keys = fc.constantFrom(...Object.keys(t5ConfigFields), 'other', '__proto__');
  fc.assert(
    fc.property(fc.oneof(fc.jsonValue(), fc.dictionary(keys, values)), (input) => {
      try {
        const config = t5Config(input, 'x');
        assert.ok(parameterCount(config) > 0);
        JSON.stringify(savedConfig(config));
      } catch (error) {
        assert.ok(error instanceof UsageError, String(error));
      }
    }),
    { numRuns: 1000, seed: 1 },
  );
});

test("parameters are counted as in FAT5's and nanoT5's models", () => {
  const size = (d_model: number, d_ff: number, num_heads: number, num_layers: number, vocab_size = 32128) =>
    parameterCount(t5Config({ ...v1_1, d_model, d_ff, num_heads, num_layers, vocab_size }));
  assert.equal(size(512, 1024, 6, 8), 76_961_152);
  assert.equal(size(768, 2048, 12, 12), 247_577_856);
  assert.equal(size(1024, 2816, 16, 24), 783_150_080);
  assert.equal(size(2048, 5120, 32, 24), 2_849_757_184);
  assert.equal(size(512, 2048, 8, 12, 32768), 146_832_896);
  assert.equal(size(512, 1024, 8, 12, 32768), 109_084_160);
  assert.equal(size(768, 3072, 12, 12, 32768), 305_184_000);
  assert.equal(size(1024, 4096, 16, 24, 32768), 973_204_480);
  assert.equal(parameterCount(t5Config({})), 60_506_624, 't5-small');
});

test('names are unique, and UMT5 has a table in every block', () => {
  const architectures: Architecture[] = ['conditional_generation', 'encoder', 'sequence_classification'];
  for (const architecture of architectures) {
    const names = parameterTable(t5Config({ position_encoding_type: 'fire' }), architecture).map(({ name }) => name);
    assert.equal(new Set(names).size, names.length);
  }
  const tables = (model_type: 'mt5' | 'umt5') =>
    parameterTable(t5Config({ model_type, num_layers: 3, num_decoder_layers: 2 }), 'conditional_generation').filter(
      (p) => p.name.endsWith('relative_attention_bias.weight'),
    ).length;
  assert.equal(tables('mt5'), 2);
  assert.equal(tables('umt5'), 5);
});

test("standard deviations are Hugging Face's, with wo by d_ff and lm_head by name", () => {
  const c = t5Config({ ...v1_1, d_model: 64, d_kv: 16, num_heads: 8, d_ff: 256 });
  const std = (end: string, config = c) => {
    const { initial } = parameterTable(config, 'conditional_generation').find(({ name }) => name.endsWith(end))!;
    return 'normal' in initial ? initial.normal : Number.NaN;
  };
  assert.equal(std('shared.weight'), 1);
  assert.equal(std('SelfAttention.q.weight'), 1 / 32);
  assert.equal(std('SelfAttention.k.weight'), 1 / 8);
  assert.equal(std('SelfAttention.o.weight'), 128 ** -0.5);
  assert.equal(std('wi_0.weight'), 1 / 8);
  assert.equal(std('wo.weight'), 1 / 16);
  assert.equal(std('relative_attention_bias.weight'), 1 / 8);
  assert.equal(std('lm_head.weight'), 1 / 8);
  assert.equal(std('lm_head.weight', t5Config({ ...c, lm_head_init: 'unit' })), 1);
});

test('what goes to the head is scaled where the transformers that wrote the configuration scales it', () => {
  const scaled = (config: object) => t5Config({ tie_word_embeddings: true, ...config }).scale_decoder_outputs;
  assert.equal(scaled({ model_type: 'mt5', transformers_version: '4.40.0' }), true);
  assert.equal(
    scaled({ model_type: 'mt5', transformers_version: '5.18.0' }),
    false,
    'written by 5, which never scales',
  );
  assert.equal(scaled({ model_type: 'umt5', transformers_version: '5.18.0' }), true);
  assert.equal(scaled({ model_type: 'umt5', tie_word_embeddings: false, transformers_version: '4.31.0.dev0' }), false);
  assert.equal(scaled({ model_type: 't5', scale_decoder_outputs: false, transformers_version: '5.18.0' }), false);
});
