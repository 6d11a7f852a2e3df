/** What only a GPU shows: recorded steps, bits that repeat, memory that comes back, errors of the device. */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import type { CudaBackend } from '../src/backend/cuda/cuda.ts';
import { T5ForConditionalGeneration } from '../src/model/t5.ts';
import { kernels } from '../src/ops/registry.ts';
import { Trainer } from '../src/train/trainer.ts';
import type { Batch } from '../src/util/batch.ts';
import { compileCases, randomInputs, runOn, testedBackend, testedDevice, uniform } from './harness.ts';

const config = {
  vocab_size: 1000,
  d_model: 128,
  d_kv: 64,
  d_ff: 256,
  num_layers: 2,
  num_heads: 4,
  feed_forward_proj: 'gated-gelu',
  dropout_rate: 0.1,
  tie_word_embeddings: false,
  z_loss: 1e-4,
} as const;

function batch(seed: number): Batch {
  const random = uniform(seed);
  const [rows, sourceLength, targetLength] = [8, 96, 48];
  const ids = (length: number) => Int32Array.from({ length: rows * length }, () => 3 + Math.floor(random() * 900));
  const halves = (length: number) => Int32Array.from({ length: rows * length }, (_, i) => (i % length < 20 ? 0 : 1));
  return {
    ...{ rows, sourceLength, targetLength, tokens: rows * targetLength },
    input_ids: ids(sourceLength),
    decoder_input_ids: ids(targetLength),
    labels: ids(targetLength),
    segments: halves(sourceLength),
    decoder_segments: halves(targetLength),
  };
}

describe('on a GPU', { skip: testedDevice !== 'cuda' && 'FAT5_DEVICE is not cuda' }, () => {
  /** Losses and gradient norms of some steps, and the values at the end. */
  async function train(dtype: 'float32' | 'bfloat16', { recorded }: { recorded: boolean }) {
    const model = T5ForConditionalGeneration.from_config(config, { device: testedDevice, dtype, seed: 1 });
    model.activation_checkpointing = false;
    const trainer = new Trainer(model, {
      optimizer: { name: 'adamw_scale', learning_rate: 0.01 },
      max_grad_norm: 1,
      seed: 5,
    });
    const results: number[] = [];
    const waiting: (() => Promise<{ loss: number; grad_norm: number }>)[] = [];
    for (let step = 0; step < 6; step++) {
      // Another number of micro-batches in between: nothing is recorded where shapes alternate.
      waiting.push(await trainer.launchOn([batch(2 * step), batch(2 * step + 1)]));
      if (!recorded) (trainer as unknown as { lastShape: undefined }).lastShape = undefined;
    }
    for (const result of waiting) {
      const { loss, grad_norm: norm } = await result();
      results.push(loss, norm);
    }
    const values = await model.parameters.values.read();
    trainer.dispose();
    model.dispose();
    return { results, values };
  }

  for (const dtype of ['float32', 'bfloat16'] as const)
    test(`recorded training steps give the bits of launched ones, and of a second run (${dtype})`, async () => {
      const { bytes } = testedBackend().usage;
      const [launched, first, second] = [
        await train(dtype, { recorded: false }),
        await train(dtype, { recorded: true }),
        await train(dtype, { recorded: true }),
      ];
      assert.deepEqual(second, first);
      assert.deepEqual(first.values, launched.values);
      first.results.forEach((x, i) => void assert.ok(Math.abs(x - launched.results[i]!) <= 1e-6 * x));
      assert.ok(first.results.at(-2)! < first.results[0]!);
      assert.equal(testedBackend().usage.bytes, bytes);
    });

  test('every kernel gives the same bits twice', async () => {
    const backend = testedBackend();
    await compileCases(backend, kernels, ['bf16']);
    for (const kernel of kernels.filter((k) => k.cuda))
      for (const c of kernel.cases) {
        const inputs = randomInputs(kernel, c, 'bf16');
        const first = await runOn(backend, kernel, 'bf16', inputs, c);
        assert.deepEqual(await runOn(backend, kernel, 'bf16', inputs, c), first, kernel.name);
      }
  });

  test('a launch that needs less shared memory leaves room for one of the same kernel that needs more', async () => {
    const backend = testedBackend();
    const kernel = kernels.find(({ name }) => name === 'attention_forward')!;
    // Keys of a length have a number of tiles, and segments of so many tiles lie in shared memory.
    const base = kernel.cases.find(({ sizes, absent }) => sizes.D === 64 && !absent?.includes('keySegments'))!;
    for (const length of [4096, 64, 4096]) {
      const c = { ...base, sizes: { ...base.sizes, B: 1, H: 1, M: length, N: length } };
      await runOn(backend, kernel, 'bf16', randomInputs(kernel, c, 'bf16'), c);
    }
  });

  test('a model on the GPU is trained as on the CPU', async () => {
    const losses = async (device: 'cpu' | 'cuda') => {
      const model = T5ForConditionalGeneration.from_config(config, { device, seed: 1 });
      const trainer = new Trainer(model, {
        optimizer: { name: 'adamw', learning_rate: 1e-3 },
        max_grad_norm: 1,
        seed: 5,
      });
      const found: number[] = [];
      for (let step = 0; step < 8; step++) {
        const { loss, grad_norm: norm } = await trainer.stepOn([batch(step)]);
        found.push(loss, norm);
      }
      trainer.dispose();
      model.dispose();
      return found;
    };
    const [cpu, gpu] = [await losses('cpu'), await losses('cuda')];
    cpu.forEach((x, i) => void assert.ok(Math.abs(x - gpu[i]!) < 2e-4 * x, `${gpu[i]} against ${x} on the CPU`));
  });

  test('greedy decoding writes the tokens it writes on the CPU', async () => {
    const wide = { ...config, initializer_factor: 3, eos_token_id: 7 };
    const random = uniform(1);
    const input_ids = Array.from({ length: 6 }, () => Array.from({ length: 40 }, () => 3 + Math.floor(random() * 900)));
    const generate = async (device: 'cpu' | 'cuda') => {
      const model = T5ForConditionalGeneration.from_config(wide, { device, seed: 2 });
      const rows = await model.generate({ input_ids, max_new_tokens: 50 });
      model.dispose();
      return rows;
    };
    assert.deepEqual(await generate('cuda'), await generate('cpu'));
  });

  for (const dtype of ['float32', 'bfloat16'] as const)
    test(`a row in a batch is decoded as it is alone, twice the same (${dtype})`, async () => {
      const model = T5ForConditionalGeneration.from_config(
        { ...config, initializer_factor: 3 },
        { device: testedDevice, dtype, seed: 3 },
      );
      const random = uniform(4);
      const ids = Array.from({ length: 7 }, () => Array.from({ length: 64 }, () => 3 + Math.floor(random() * 900)));
      const generate = (input_ids: number[][]) => model.generate({ input_ids, max_new_tokens: 40, eos_token_id: null });
      const all = await generate(ids);
      assert.deepEqual(await generate(ids), all);
      for (const rows of [[2], [0, 6, 3]])
        assert.deepEqual(
          await generate(rows.map((r) => ids[r]!)),
          rows.map((r) => all[r]!),
        );
      model.dispose();
    });

  test('running out of memory is an error that says so, and the next allocation works', () => {
    const backend = testedBackend() as CudaBackend;
    assert.throws(() => backend.alloc('f32', 2 ** 37), /out of memory for 512\.00 GiB/);
    backend.free(backend.alloc('f32', 1 << 20));
  });
});
