import assert from 'node:assert/strict';
import { test } from 'node:test';
import { t5Config } from '../src/model/config.ts';
import { T5ForSequenceClassification } from '../src/model/heads.ts';
import { batchOf } from '../src/model/inputs.ts';
import { Adapters, adapterTable } from '../src/model/lora.ts';
import { type Architecture, parameterTable } from '../src/model/parameter_table.ts';
import { T5ForConditionalGeneration } from '../src/model/t5.ts';
import { createOptimizer } from '../src/optim/optimizer.ts';
import { Parameters } from '../src/tensor/parameters.ts';
import { dispose } from '../src/tensor/scope.ts';
import { fakeCuda } from './fake_cuda.ts';

const config = t5Config({
  vocab_size: 50,
  d_model: 16,
  d_kv: 8,
  d_ff: 24,
  num_layers: 2,
  num_heads: 2,
  num_labels: 3,
  feed_forward_proj: 'gated-gelu',
});
const options = { rank: 4, alpha: 8, dropout: 0.1, targets: ['q', 'v', 'o', 'wi_1', 'wo'] };

for (const dtype of ['f32', 'bf16'] as const)
  test(`a GPU has a plan for everything that training with adapters launches (${dtype})`, async () => {
    const { backend, driver } = fakeCuda();
    const parts = (architecture: Architecture) => {
      const table = parameterTable(config, architecture);
      const parameters = new Parameters(backend, dtype, [...table, ...adapterTable(table, options)]);
      return { parameters, adapters: new Adapters(parameters, options, '') };
    };
    const rng = { seed: 1, step: 0 };
    const input_ids = [
      [5, 9, 1],
      [7, 1, 0],
    ];
    const attention_mask = [
      [1, 1, 1],
      [1, 1, 0],
    ];
    const heads = parts('sequence_classification');
    const classifier = new T5ForSequenceClassification(config, heads.parameters);
    const texts = parts('conditional_generation');
    const writer = new T5ForConditionalGeneration(config, texts.parameters);
    for (const [model, { parameters, adapters }] of [[classifier, heads] as const, [writer, texts] as const]) {
      model.adapters = adapters;
      parameters.trainable((name) => /lora|classification_head/.test(name));
      const scale = (name: string) => (name.includes('block.0') ? 0.5 : 1);
      const optimizer = createOptimizer(parameters, { name: 'adamw' }, scale);
      const before = driver.log.length;
      const inputs = { input_ids, attention_mask, labels: [2, 0], class_weights: [1, 2, 3] };
      const stats =
        model === classifier
          ? model.accumulateGradients({ inputs, tokens: 4 }, { denominator: 4, rng })
          : writer.accumulateGradients(
              batchOf(
                {
                  input_ids,
                  attention_mask,
                  labels: [
                    [3, 4, 1],
                    [1, -100, -100],
                  ],
                },
                config,
              ),
              {
                denominator: 3,
                rng,
              },
            );
      dispose(stats);
      parameters.finishGradients();
      optimizer.step({ learning_rate: 1e-3, max_grad_norm: 1 });
      // Two products forward and four backward for each adapter, but for the gradient of frozen embeddings.
      const products = (from: number) =>
        driver.log.slice(from).filter((line) => line.startsWith('gemm') && line.split(' ').slice(1, 4).includes('4'));
      const trained = products(before).length;
      const most = 6 * adapters.list.length;
      assert.ok(trained <= most && trained >= most - 4, `${trained} products of ${adapters.list.length} adapters`);
      const merging = driver.log.length;
      await model.whileMerged(async () => {});
      assert.equal(products(merging).length, adapters.list.length);
      optimizer.dispose();
      model.dispose();
    }
  });
