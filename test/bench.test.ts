import assert from 'node:assert/strict';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { peerMeasurements } from '../src/bench/cpu.ts';
import { benchPrecision, quantile } from '../src/bench/precision.ts';
import { T5ForConditionalGeneration } from '../src/model/t5.ts';
import { FormatError, UsageError } from '../src/util/errors.ts';
import { published } from './model_configs.ts';

const root = mkdtempSync(join(tmpdir(), 'fat5-bench-test-'));
after(() => rmSync(root, { recursive: true }));
const file = join(root, 'peer.jsonl');

test('a peer is compared with the dtype that is its own, by its fastest run', () => {
  const lines = [
    { section: 'cpu_encode', case: 'B8 S128', impl: 'ort_fp32', ms: 500 },
    { case: 'B8 S128', impl: 'ort_fp32', ms: 256 },
    { case: 'B8 in64 new64 greedy', impl: 'ort_q8', ms: 1000 },
    { case: 'something else', impl: 'ort_q8', ms: 1 },
  ];
  writeFileSync(file, `${lines.map((line) => JSON.stringify(line)).join('\n')}\n\n`);
  const peers = peerMeasurements(file);
  assert.deepEqual([...peers.keys()], ['B8 S128 float32', 'B8 in64 new64 greedy int8']);
  assert.equal(peers.get('B8 S128 float32')!.milliseconds, 256);
  assert.equal(peers.get('B8 S128 float32')!.rate, 4000);
  assert.equal(peers.get('B8 in64 new64 greedy int8')!.rate, 512);
});

test('a peer file that is not one is refused with its line', () => {
  assert.throws(() => peerMeasurements(join(root, 'none')), UsageError);
  for (const wrong of ['x', '{"case":"B1 S32","impl":"a"}', 'null', '{"case":"B1 S32","impl":"a","ms":-1}']) {
    writeFileSync(file, `\n${wrong}\n`);
    assert.throws(() => peerMeasurements(file), { name: FormatError.name, message: /peer\.jsonl:2: is / });
  }
});

test('quantiles lie between the values beside them', () => {
  const values = Float32Array.of(0, 1, 2, 4);
  assert.deepEqual(
    [0, 0.5, 0.75, 1].map((share) => quantile(values, share)),
    [0, 1.5, 2.5, 4],
  );
});

test('the precision of bfloat16, int8 and float8 is that of their steps', async () => {
  const config = { ...published.v1_1, d_model: 48, d_kv: 16, num_heads: 3, d_ff: 64, vocab_size: 300 };
  const model = T5ForConditionalGeneration.from_config(config, { device: 'cpu' });
  await model.save_pretrained(root);
  model.dispose();
  for (const { dtype, size, quantiles, elements } of await benchPrecision({ folder: root })) {
    const { p50, p90, p99, 'p99.9': most, max } = quantiles as Record<string, number>;
    assert.equal(elements, 2216 * config.d_model);
    assert.ok(p50! > 1e-4 * size && p50! < (dtype === 'float8' ? 0.06 : 0.02) * size, `${dtype}: ${p50} of ${size}`);
    assert.ok(p50! < p90! && p90! < p99! && p99! < most! && most! <= max! && max! < size);
  }
});
