import assert from 'node:assert/strict';
import { test } from 'node:test';
import { openCpu } from '../src/backend/cpu/cpu.ts';
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

/** Runs f while the CPU seems to replay recorded work; `recordings` counts them. */
async function replaying<R>(f: () => Promise<R>): Promise<{ result: R; recordings: number; replays: number }> {
  const backend = openCpu();
  let recordings = 0;
  let replays = 0;
  backend.capture = (work) => {
    recordings++;
    return {
      run() {
        replays++;
        work();
      },
      dispose() {},
    };
  };
  try {
    return { result: await f(), recordings, replays };
  } finally {
    delete backend.capture;
  }
}

test('a trainer records the second step of a shape and gives the results of one that does not', async () => {
  const options = { optimizer: { name: 'adamw', learning_rate: 0.01 }, max_grad_norm: 1, seed: 3 } as const;
  const train = async () => {
    const model = T5ForConditionalGeneration.from_config(config, { device: 'cpu', seed: 4 });
    const trainer = new Trainer(model, options);
    const before = openCpu().usage.bytes;
    const results: unknown[] = [];
    const waiting: (() => Promise<unknown>)[] = [];
    for (const [i, packed] of [true, true, true, false, true].entries()) {
      waiting.push(await trainer.launchOn([batch(i, packed)]));
      if (i % 2 === 1) for (const result of waiting.splice(0)) results.push(await result());
    }
    for (const result of waiting) results.push(await result());
    assert.ok(openCpu().usage.bytes - before < 1 << 20);
    trainer.dispose();
    model.dispose();
    return results as { loss: number }[];
  };
  const before = openCpu().usage.bytes;
  const plain = await train();
  const { result, recordings, replays } = await replaying(train);
  assert.deepEqual([recordings, replays], [1, 2]);
  const round = (results: { loss: number }[]) =>
    results.map(({ loss, ...rest }) => ({ ...rest, loss: loss.toFixed(5) }));
  assert.deepEqual(round(result), round(plain));
  assert.equal(openCpu().usage.bytes, before);
});

for (const position_encoding_type of ['t5', 'rope', 'fire'] as const)
  test(`greedy decoding from recorded steps writes the same tokens (${position_encoding_type})`, async () => {
    const wide = {
      ...config,
      initializer_factor: 5,
      position_encoding_type,
      eos_token_id: 7,
      decoder_start_token_id: 0,
    };
    const { bytes } = openCpu().usage;
    const model = T5ForConditionalGeneration.from_config(wide, { device: 'cpu', seed: 2 });
    const random = uniform(1);
    const input_ids = Array.from({ length: 5 }, () => Array.from({ length: 9 }, () => 1 + Math.floor(random() * 49)));
    let longest = 0;
    for (const options of [{ max_new_tokens: 40 }, { max_new_tokens: 1 }, { max_new_tokens: 18 }]) {
      const streams: number[][][][] = [];
      const generate = () => {
        const seen: number[][][] = [];
        streams.push(seen);
        return model.generate({
          input_ids,
          ...options,
          ...(options.max_new_tokens === 40 && {
            streamer: { put: (ids: number[][]) => void seen.push(ids), end() {} },
          }),
        });
      };
      const want = await generate();
      // Twice: the second call takes the first one's session. Two at a time: the later one gets its own.
      const both = async () => [await generate(), await generate(), ...(await Promise.all([generate(), generate()]))];
      const { result, recordings } = await replaying(both);
      for (const again of result) assert.deepEqual(again, want);
      assert.deepEqual(streams[1], streams[0]);
      assert.equal(recordings, position_encoding_type === 'fire' ? 0 : options.max_new_tokens === 40 ? 4 : 2);
      longest = Math.max(longest, ...want.map((row) => row.length));
    }
    assert.ok(longest > 20);
    model.dispose();
    assert.equal(openCpu().usage.bytes, bytes);
  });
