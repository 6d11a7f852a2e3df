/** Calls that overlap give what they give one after the other. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { T5ForConditionalGeneration } from '../src/model/t5.ts';
import { Trainer } from '../src/train/trainer.ts';
import { testedDevice, uniform } from './harness.ts';

const config = { vocab_size: 60, d_model: 16, d_kv: 8, d_ff: 32, num_layers: 2, num_heads: 2, dropout_rate: 0 };
const options = { device: testedDevice, seed: 3 } as const;
const inputs = [
  { input_ids: [[5, 6, 7, 1]], labels: [[33, 4, 1]] },
  {
    input_ids: [
      [50, 20, 1],
      [7, 8, 9],
    ],
    labels: [
      [3, 1],
      [44, -100],
    ],
  },
] as const;

test('gradients of two calls at the same time are those of each', async () => {
  const model = T5ForConditionalGeneration.from_config(config, options);
  const wanted = [];
  for (const one of inputs) wanted.push(await model.lossAndGradients(one));
  const found = await Promise.all(inputs.map((one) => model.lossAndGradients(one)));
  for (const [i, { loss, gradients }] of found.entries()) {
    assert.equal(loss, wanted[i]!.loss);
    for (const [name, { data }] of Object.entries(gradients))
      assert.deepEqual(data, wanted[i]!.gradients[name]!.data, `call ${i}: ${name}`);
  }
  model.dispose();
});

test('training steps that begin at the same time come one after the other', async () => {
  const trained = async (run: (trainer: Trainer) => Promise<unknown>) => {
    const model = T5ForConditionalGeneration.from_config(config, options);
    const trainer = new Trainer(model, { optimizer: { name: 'adamw', learning_rate: 0.01 } });
    const results = await run(trainer);
    const { logits } = await model.forward(inputs[0]);
    trainer.dispose();
    model.dispose();
    return { results, logits: logits.data };
  };
  const inTurn = await trained(async (trainer) => {
    const results = [];
    for (const one of inputs) results.push(await trainer.step(one));
    return results;
  });
  const atOnce = await trained((trainer) => Promise.all(inputs.map((one) => trainer.step(one))));
  assert.deepEqual(atOnce, inTurn);
});

test('answers of a model with adapters, of which one ends long before the other', async () => {
  const lora = { rank: 2, alpha: 400, dropout: 0, targets: ['q', 'v', 'wo'] };
  const model = T5ForConditionalGeneration.from_config(config, { ...options, lora });
  const random = uniform(5);
  for (const { b } of model.adapters!.list) b.write(Array.from({ length: b.length }, () => random() - 0.5));
  const { logits } = await model.forward(inputs[0]);
  const long = { input_ids: inputs[0].input_ids, max_new_tokens: 40, eos_token_id: null };
  const wanted = await model.generate(long);
  const [, found] = await Promise.all([model.generate({ ...long, max_new_tokens: 2 }), model.generate(long)]);
  assert.deepEqual(found, wanted);
  assert.deepEqual((await model.forward(inputs[0])).logits.data, logits.data);
  model.dispose();
});
