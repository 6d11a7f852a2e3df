import assert from 'node:assert/strict';
import { test } from 'node:test';
import { T5ForConditionalGeneration } from '../src/model/t5.ts';
import { learningRate } from '../src/optim/schedule.ts';
import { RecordedStep, shapeOfStep } from '../src/train/recorded_step.ts';
import { Trainer } from '../src/train/trainer.ts';
import { type Batch, IGNORED } from '../src/util/batch.ts';
import { uniform } from './harness.ts';

const V = 50;
const config = {
  vocab_size: V,
  d_model: 16,
  d_kv: 8,
  d_ff: 24,
  num_layers: 2,
  num_heads: 2,
  feed_forward_proj: 'gated-gelu',
  dropout_rate: 0.1,
  tie_word_embeddings: false,
  z_loss: 1e-3,
} as const;

/** Two examples in each row, some labels without a loss. */
function batch(seed: number, packed = true): Batch {
  const random = uniform(seed);
  const [rows, sourceLength, targetLength] = [3, 11, 6];
  const ids = (length: number) => Int32Array.from({ length: rows * length }, () => Math.floor(random() * V));
  const halves = (length: number) => Int32Array.from({ length: rows * length }, (_, i) => (i % length < 4 ? 0 : 1));
  const labels = ids(targetLength).map((id) => (random() < 0.2 ? IGNORED : id));
  return {
    ...{ rows, sourceLength, targetLength, labels },
    input_ids: ids(sourceLength),
    decoder_input_ids: ids(targetLength),
    ...(packed && { segments: halves(sourceLength), decoder_segments: halves(targetLength) }),
    tokens: labels.filter((id) => id !== IGNORED).length,
  };
}

for (const position_encoding_type of ['t5', 'fire'] as const)
  test(`a step from fixed places gives the same bits as one that uploads its batches (${position_encoding_type})`, async () => {
    const optimizer = { name: 'adamw_scale', learning_rate: 0.02 } as const;
    const schedule = { name: 'linear', total_steps: 10, warmup_steps: 2 } as const;
    const make = () =>
      T5ForConditionalGeneration.from_config({ ...config, position_encoding_type }, { device: 'cpu', seed: 4 });
    const options = { optimizer, schedule, max_grad_norm: 0.5, seed: 9 };
    const [eager, recorded] = [new Trainer(make(), options), new Trainer(make(), options)];
    const micro = (step: number) => [batch(2 * step), batch(2 * step + 1)];
    const step = new RecordedStep(recorded.model, recorded.optimizer, { batches: micro(0), seed: 9 });
    const losses: number[] = [];
    for (let i = 0; i < 4; i++) {
      const batches = micro(i);
      const tokens = batches[0]!.tokens + batches[1]!.tokens;
      const want = await eager.stepOn(batches);
      const learning_rate = learningRate(schedule, 0.02, recorded.optimizer.steps);
      const { sums, norm } = await step.run(batches, { factor: 1 / tokens, learning_rate, max_grad_norm: 0.5 });
      const [nll, z, correct] = sums.map((sum) => sum / tokens);
      assert.ok(Math.abs(nll! + z! - want.loss) < 1e-6 * want.loss);
      assert.deepEqual([correct, norm], [want.accuracy, want.grad_norm]);
      losses.push(want.loss);
    }
    assert.ok(losses[3] !== losses[0]);
    const values = async ({ model }: Trainer) => model.parameters.values.read();
    assert.deepEqual(await values(recorded), await values(eager));
    step.dispose();
    for (const trainer of [eager, recorded]) {
      trainer.dispose();
      trainer.model.dispose();
    }
  });

test('batches with and without segments, or more of them, are other shapes', () => {
  const shapes = [[batch(0)], [batch(0, false)], [batch(0), batch(1)]].map(shapeOfStep);
  assert.equal(new Set(shapes).size, 3);
  assert.equal(shapeOfStep([batch(5)]), shapes[0]);
});
