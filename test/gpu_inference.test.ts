/** Inference on a GPU in 16 bits: layers that put out more than float16 holds, folded norms, drawn tokens. */
import assert from 'node:assert/strict';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, describe, test } from 'node:test';
import { T5EncoderModel, T5ForConditionalGeneration } from '../src/index.ts';
import type { ModelOptions } from '../src/model/pretrained.ts';
import { roundToBfloat16 } from '../src/util/bfloat16.ts';
import { testedDevice, uniform } from './harness.ts';

const config = {
  vocab_size: 1000,
  d_model: 128,
  d_kv: 64,
  d_ff: 256,
  num_layers: 4,
  num_heads: 4,
  feed_forward_proj: 'gated-gelu',
  tie_word_embeddings: false,
} as const;
const random = uniform(1);
const input_ids = Array.from({ length: 3 }, () => Array.from({ length: 70 }, () => 3 + Math.floor(random() * 900)));

const root = mkdtempSync(join(tmpdir(), 'fat5-gpu-inference-'));
after(() => rmSync(root, { recursive: true }));

/** A checkpoint whose feed-forward layers put out some 10^6 in a few channels, as some of T5's do. */
async function withOutliers(): Promise<string> {
  const model = T5ForConditionalGeneration.from_config(config, { device: 'cpu', seed: 3 });
  for (const { name } of model.parameters.places) {
    const tensor = model.parameters.get(name);
    const values = Array.from((await tensor.read()) as Float32Array);
    const outlier = /block\.[12]\..*\.wo\.weight$/.test(name);
    tensor.write(values.map((x, i) => roundToBfloat16(outlier && i < 2 * config.d_ff ? 200_000 * x : x)));
  }
  await model.save_pretrained(root);
  model.dispose();
  return root;
}

describe('inference on a GPU', { skip: testedDevice !== 'cuda' && 'FAT5_DEVICE is not cuda' }, () => {
  test('16 bits are near float32 where layers put out more than float16 holds, with folded norms too', async () => {
    const folder = await withOutliers();
    const answers = async (options: ModelOptions & { fold_norms?: boolean }) => {
      const model = await T5ForConditionalGeneration.from_pretrained(folder, { device: 'cuda', ...options });
      const states = (await model.encode({ input_ids })).last_hidden_state.data;
      const { logits } = await model.forward({ input_ids, decoder_input_ids: input_ids.map((row) => row.slice(0, 9)) });
      const rows = await model.generate({ input_ids, max_new_tokens: 8 });
      model.dispose();
      return { states, logits: logits.data, rows };
    };
    const want = await answers({ dtype: 'float32' });
    assert.ok(want.states.every(Number.isFinite));
    const norm = (values: ArrayLike<number>) => Math.hypot(...Array.from(values));
    // Beside outliers, normalised values are so small that float16 has fewer digits for them.
    for (const [dtype, step] of [
      ['bfloat16', 2 ** -8],
      ['float16', 2 ** -11],
    ] as const)
      for (const fold_norms of [false, true]) {
        const got = await answers({ dtype, fold_norms });
        for (const part of ['states', 'logits'] as const) {
          const error = norm(got[part].map((x, i) => x - want[part][i]!)) / norm(want[part]);
          assert.ok(error > 0 && error < 12 * step, `${dtype} ${part}: relative error ${error}`);
        }
        assert.deepEqual(await answers({ dtype, fold_norms }), got, 'the same bits twice');
      }
  });

  test('texts are encoded from recordings as without them: the same bits for a shape, other texts and lengths too', async () => {
    const model = T5EncoderModel.from_config(config, { device: 'cuda', dtype: 'bfloat16', seed: 3 });
    const cpu = T5EncoderModel.from_config(config, { device: 'cpu', dtype: 'bfloat16', seed: 3 });
    const encode = async (on: T5EncoderModel, columns: number, from: number) =>
      (await on.encode({ input_ids: input_ids.map((row) => row.slice(from, from + columns)) })).last_hidden_state;
    const firsts = new Map<string, unknown>();
    for (let round = 0; round < 4; round++)
      for (const [columns, from] of [
        [40, 0],
        [64, 2],
        [40, 20],
        [17, 7],
      ] as const) {
        const got = await encode(model, columns, from);
        const key = `${columns} ${from}`;
        if (round > 0) assert.deepEqual(got.data, firsts.get(key), `round ${round}, ${key}`);
        firsts.set(key, got.data);
        const want = (await encode(cpu, columns, from)).data;
        const error = Math.hypot(...Array.from(got.data, (x, i) => x - want[i]!)) / Math.hypot(...want);
        assert.ok(error < 0.02, `${key}: relative error ${error}`);
      }
    const at = async (columns: number, from: number) => (await encode(model, columns, from)).data;
    const both = await Promise.all([at(40, 0), at(40, 20), at(40, 0)]);
    assert.deepEqual(both, [firsts.get('40 0'), firsts.get('40 20'), firsts.get('40 0')]);
    model.dispose();
    cpu.dispose();
  });

  test('gate and up of many rows are near float32, which Hopper multiplies in one launch', async () => {
    const folder = join(root, 'gated');
    const saved = T5ForConditionalGeneration.from_config(
      { ...config, d_ff: 4096, num_layers: 2 },
      { device: 'cpu', seed: 4 },
    );
    await saved.save_pretrained(folder);
    saved.dispose();
    const sources = [
      [4, 300],
      [5, 420],
    ].map(([rows, length]) =>
      Array.from({ length: rows! }, () => Array.from({ length: length! }, () => 3 + Math.floor(random() * 900))),
    );
    const states = async (dtype: 'float32' | 'bfloat16' | 'float16') => {
      const model = await T5ForConditionalGeneration.from_pretrained(folder, { device: 'cuda', dtype });
      const found: ArrayLike<number>[] = [];
      for (const input_ids of sources) found.push((await model.encode({ input_ids })).last_hidden_state.data);
      model.dispose();
      return found;
    };
    const want = await states('float32');
    for (const [dtype, step] of [
      ['bfloat16', 2 ** -8],
      ['float16', 2 ** -11],
    ] as const) {
      const got = await states(dtype);
      for (const [i, values] of got.entries()) {
        const exact = Array.from(want[i]!);
        const error = Math.hypot(...exact.map((x, j) => x - values[j]!)) / Math.hypot(...exact);
        assert.ok(error > 0 && error < 2 * step, `${dtype}: relative error ${error}`);
      }
      assert.deepEqual(await states(dtype), got, 'the same bits twice');
    }
  });

  test('tokens are drawn in recorded steps, the same as on the CPU for the same seed', async () => {
    const draw = async (device: 'cpu' | 'cuda') => {
      const model = T5ForConditionalGeneration.from_config({ ...config, eos_token_id: 7 }, { device, seed: 2 });
      const rows: number[][][] = [];
      for (const [seed, options] of [{}, { temperature: 0.6 }, { top_k: 0, top_p: 0.9 }, { top_k: 9 }, {}].entries())
        rows.push(await model.generate({ input_ids, max_new_tokens: 40, do_sample: true, seed: seed % 4, ...options }));
      model.dispose();
      return rows;
    };
    const [cpu, gpu] = [await draw('cpu'), await draw('cuda')];
    assert.deepEqual(gpu, cpu);
    assert.deepEqual(gpu[4], gpu[0]);
    assert.notDeepEqual(gpu[1], gpu[0]);
  });

  test('beams, chosen on the device, and choices under a penalty, whose steps are replayed, are those of the CPU', async () => {
    const answers = async (device: 'cpu' | 'cuda') => {
      const model = T5ForConditionalGeneration.from_config(
        { ...config, initializer_factor: 2, eos_token_id: 7 },
        { device, seed: 2 },
      );
      const rows = [
        await model.generate({ input_ids, max_new_tokens: 40, num_beams: 4, length_penalty: 0.5 }),
        await model.generate({ input_ids, max_new_tokens: 40, repetition_penalty: 1.3 }),
      ];
      const again = { input_ids, max_new_tokens: 30, num_beams: 2 };
      await model.generate(again); // whose session is kept
      const { bytes } = model.backend.usage;
      await model.generate(again);
      await model.generate({ ...again, stopping_criteria: [] });
      assert.equal(model.backend.usage.bytes, bytes, 'nothing is left of a decoding');
      model.dispose();
      return rows;
    };
    assert.deepEqual(await answers('cuda'), await answers('cpu'));
  });
});
