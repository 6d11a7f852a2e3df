/** Greedy tokens by a copy of the head in int8: always those of the float32 head. */
import assert from 'node:assert/strict';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { openCpu } from '../src/backend/cpu/cpu.ts';
import { noise } from '../src/bench/bench.ts';
import { T5ForConditionalGeneration } from '../src/index.ts';
import { Coarse } from '../src/ops/likeliest/likeliest.ts';
import { linearRows } from '../src/ops/linear_rows/linear_rows.ts';
import { argmax } from '../src/ops/top_k/top_k.ts';
import { Tensor } from '../src/tensor/tensor.ts';
import { published } from './model_configs.ts';

const cpu = openCpu();
const root = mkdtempSync(join(tmpdir(), 'fat5-likeliest-'));
after(() => rmSync(root, { recursive: true }));

/** Matrices [V,I] whose largest outputs are hard to tell apart. */
const kinds: Record<string, (random: number, v: number, i: number) => number> = {
  'of even noise': (random) => random,
  'of rows in equal pairs': (_, v, i) => Math.sin(Math.floor(v / 2) * 37 + i * i),
  'of nearly equal rows': (random, _, i) => Math.cos(i) + 1e-6 * random,
  'of rows of all sizes': (random, v) => random * 10 ** ((v % 60) - 30),
  'with zeros, infinities and NaN': (random, v, i) =>
    v % 7 === 0 ? 0 : v === 400 && i === 3 ? Number.NaN : v === 401 && i === 4 ? Number.POSITIVE_INFINITY : random,
};

for (const [kind, of] of Object.entries(kinds))
  for (const [V, I] of [
    [1003, 61],
    [515, 512],
  ] as const)
    test(`the likeliest of ${V} outputs ${kind} are those of the float32 product`, async () => {
      const random = noise(V * I, 3);
      const weight = Tensor.from(
        cpu,
        'f32',
        [V, I],
        random.map((r, at) => of(r, Math.floor(at / I), at % I)),
      );
      const coarse = new Coarse(weight);
      coarse.fill(weight);
      for (const [seed, N] of [1, 3, 4, 9].entries()) {
        const x = Tensor.from(
          cpu,
          'f32',
          [1, N, I],
          noise(N * I, seed).map((value, at) => value * 10 ** -(Math.floor(at / I) % 3)),
        );
        const ours = await coarse.likeliest(x, weight, 0.25).read();
        assert.deepEqual(ours, await argmax(linearRows(x, [weight], { alpha: 0.25 })[0]!).read(), `${N} rows`);
      }
      coarse.dispose();
    });

test('a model in its file writes the same tokens with scores and without, also after its head was changed', async () => {
  const config = { ...published.v1_1, d_model: 64, d_kv: 16, d_ff: 128, num_heads: 4, vocab_size: 997 };
  const made = T5ForConditionalGeneration.from_config(config, { device: 'cpu', seed: 9 });
  await made.save_pretrained(root);
  made.dispose();
  const { bytes } = cpu.usage;
  const model = await T5ForConditionalGeneration.from_pretrained(root, { device: 'cpu' });
  const call = {
    input_ids: [
      [5, 9, 13, 1],
      [7, 8, 3, 1],
    ],
    max_new_tokens: 30,
    eos_token_id: null,
  };
  const head = model.parameters.get('lm_head.weight');
  const answers = async () => {
    const plain = (await model.generate(call)) as number[][];
    const { sequences } = await model.generate({ ...call, return_dict_in_generate: true, output_scores: true });
    assert.deepEqual(plain, sequences);
    return plain;
  };
  const before = await answers();
  assert.ok(head.derived, 'the copy was made');
  head.write(noise(head.length, 77));
  assert.equal(head.derived, undefined);
  assert.notDeepEqual(await answers(), before);
  model.parameters.trainable();
  assert.equal(head.derived, undefined);
  await answers();
  assert.equal(head.derived, undefined, 'what is trained has none');
  model.dispose();
  assert.equal(cpu.usage.bytes, bytes);
});
