/** One product for matrices that lie together, and what the backward pass makes again: the gradients stay what they are. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { Backend } from '../src/backend/backend.ts';
import { openReference } from '../src/backend/reference.ts';
import { t5Config } from '../src/model/config.ts';
import { parameterTable } from '../src/model/parameter_table.ts';
import type { Pass, Random } from '../src/model/pass.ts';
import { T5ForConditionalGeneration } from '../src/model/t5.ts';
import { Parameters } from '../src/tensor/parameters.ts';
import { dispose } from '../src/tensor/scope.ts';
import type { Batch } from '../src/util/batch.ts';
import { testedBackend, testedDevice, uniform } from './harness.ts';

const config = t5Config({
  ...{ vocab_size: 30, d_model: 16, d_kv: 8, d_ff: 24, num_layers: 2, num_heads: 2, dropout_rate: 0.2 },
  ...{ feed_forward_proj: 'gated-gelu', tie_word_embeddings: false },
});
const ints = (length: number, seed: number) => Int32Array.from({ length }, (_, i) => 2 + ((i * 7 + seed) % 27));
const batch: Batch = {
  ...{ rows: 2, sourceLength: 9, targetLength: 5, tokens: 10 },
  ...{ input_ids: ints(18, 1), decoder_input_ids: ints(10, 2), labels: ints(10, 3) },
  segments: Int32Array.from({ length: 18 }, (_, i) => Number(i % 9 > 4)),
  decoder_segments: Int32Array.from({ length: 10 }, (_, i) => Number(i % 5 > 1)),
};

/** A model whose passes are as asked for. */
class Asked extends T5ForConditionalGeneration {
  asked: Partial<Pass> = {};
  protected override pass(random?: Random): Pass {
    return { ...super.pass(random), ...this.asked };
  }
}

async function gradients(backend: Backend, asked: Partial<Pass>, trainable: (name: string) => boolean) {
  const parameters = new Parameters(backend, 'f32', parameterTable(config, 'conditional_generation'));
  const random = uniform(5);
  for (const tensor of parameters.all.values())
    tensor.write(Array.from({ length: tensor.length }, () => random() - 0.5));
  const model = new Asked(config, parameters);
  model.asked = asked;
  parameters.trainable(trainable);
  // Two micro-batches, so that what is there is added to.
  for (const step of [1, 2]) dispose(model.accumulateGradients(batch, { denominator: 20, rng: { seed: 3, step } }));
  parameters.finishGradients();
  const found = new Map<string, number[]>();
  for (const { name } of parameters.places) {
    const { grad } = parameters.get(name);
    if (grad) found.set(name, Array.from(await grad.read()));
  }
  model.dispose();
  return found;
}

// Attention of parts of rows has no CPU kernel.
const backends = [openReference(), ...(testedDevice === 'cuda' ? [testedBackend()] : [])];

for (const backend of backends)
  for (const [what, trainable] of [
    ['every parameter', () => true],
    ['some members of each group', (name: string) => /\.(q|v|wi_0|wo)\.weight/.test(name)],
    ['the decoder', (name: string) => name.startsWith('decoder')],
  ] as const)
    test(`${backend.name}: packed, lean and checkpointed passes give the gradients of ${what}`, async () => {
      const { bytes } = backend.usage;
      const want = await gradients(backend, { packs: false, lean: false }, trainable);
      for (const asked of [
        { packs: true, lean: false },
        { packs: true, lean: true },
        { packs: false, lean: true },
        { packs: true, lean: true, checkpointing: true },
        { packs: true, lean: true, keysAgain: true },
        { packs: false, lean: false, keysAgain: true },
      ]) {
        const got = await gradients(backend, asked, trainable);
        assert.deepEqual([...got.keys()], [...want.keys()]);
        for (const [name, values] of want)
          values.forEach((value, i) => {
            const close = Math.abs(got.get(name)![i]! - value) <= 1e-5 * Math.max(1, Math.abs(value));
            assert.ok(close, `${name}[${i}] is ${got.get(name)![i]}, expected ${value} (${JSON.stringify(asked)})`);
          });
      }
      assert.equal(backend.usage.bytes, bytes, 'nothing leaks');
    });
