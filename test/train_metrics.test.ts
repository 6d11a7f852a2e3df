import assert from 'node:assert/strict';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, describe, test } from 'node:test';
import { peakFlops } from '../src/backend/cuda/peak.ts';
import { t5Config } from '../src/model/config.ts';
import { EnergyMeter } from '../src/train/energy.ts';
import { forwardFlops, stepFlops } from '../src/train/flops.ts';
import {
  duration,
  evaluationLine,
  MetricsFile,
  readMetrics,
  type TrainRecord,
  trainLine,
} from '../src/train/metrics.ts';

const folder = mkdtempSync(join(tmpdir(), 'fat5-metrics-'));
after(() => rmSync(folder, { recursive: true }));

const record = (step: number): TrainRecord => ({
  kind: 'train',
  step,
  loss: 59.8811,
  z_loss: 0.01,
  accuracy: 0.25,
  grad_norm: 61.126,
  weight_norm: 7042.931,
  learning_rate: 0.01,
  seconds_per_step: 1.385,
  tokens_per_second: 5120.4,
  gflops: 170.25,
  padding: 0.02,
  memory_bytes: 1,
  device_bytes: 18.25e9,
  label_tokens: 1,
  seconds: 1,
});

describe('metrics', () => {
  test("the printed line begins as nanoT5's", () => {
    assert.equal(
      trainLine(record(100), 65536),
      '[train] Step 100 out of 65536 | Loss --> 59.881 | Grad_l2 --> 61.126 | Weights_l2 --> 7042.931 | Lr --> 0.010 | ' +
        'Seconds_per_step --> 1.385 | Accuracy --> 0.250 | Tokens_per_second --> 5120 | Gflops --> 170.3 | ' +
        'Memory_gb --> 18.250 | Padding --> 0.020 | Time_left --> 25:10:29 | ',
    );
    const evaluation = { kind: 'evaluation', step: 5, nll: 2, accuracy: 0.5, tokens: 9, seconds: 1.25 } as const;
    assert.equal(
      evaluationLine(evaluation, 10),
      '[eval] Step 5 out of 10 | Loss --> 2.000 | Accuracy --> 0.500 | Time --> 1.250 | ',
    );
  });

  test('a device of known speed has its share printed', () => {
    assert.match(trainLine({ ...record(1), mfu: 0.4375 }, 2), /Gflops --> 170\.3 \| Mfu --> 0\.438 \| Memory_gb/);
    assert.equal(peakFlops('NVIDIA H200', 'bf16'), 989e12);
    assert.equal(peakFlops('NVIDIA A100-SXM4-80GB', 'f32'), 19.5e12);
    assert.equal(peakFlops('NVIDIA L40S', 'f16'), 362e12);
    assert.equal(peakFlops('a device from the future', 'bf16'), undefined);
  });

  test('a small learning rate keeps its digits', () => {
    assert.match(trainLine({ ...record(1), learning_rate: 1.234e-5 }, 2), /Lr --> 1\.23e-5 \|/);
  });

  test('after a crash the file continues at the step of the checkpoint', () => {
    const path = join(folder, 'metrics.jsonl');
    const lines = [record(1), record(2), record(3)].map((r) => `${JSON.stringify(r)}\n`);
    writeFileSync(path, `${lines.join('')}{"kind":"tr`);
    const file = new MetricsFile(path, 2);
    file.append(record(4));
    file.close();
    assert.deepEqual(readMetrics(path), [record(1), record(2), record(4)]);
  });

  test('times are readable', () => {
    assert.deepEqual([5, 65, 3605, Number.POSITIVE_INFINITY].map(duration), ['0:05', '1:05', '1:00:05', '?']);
  });

  test('energy counters are summed over packages and may wrap', () => {
    const write = (name: string, file: string, value: number) => {
      mkdirSync(join(folder, name), { recursive: true });
      writeFileSync(join(folder, name, file), String(value));
    };
    for (const name of ['intel-rapl:0', 'intel-rapl:1']) {
      write(name, 'energy_uj', 900_000_000);
      write(name, 'max_energy_range_uj', 1_000_000_000);
    }
    const meter = new EnergyMeter(folder);
    write('intel-rapl:0', 'energy_uj', 903_000_000);
    write('intel-rapl:1', 'energy_uj', 1_000_000);
    assert.equal(meter.joules(), 3 + 101);
    assert.equal(new EnergyMeter(join(folder, 'none')).joules(), undefined);
  });
});

describe('model FLOPs', () => {
  const base = t5Config({
    d_model: 768,
    d_kv: 64,
    d_ff: 2048,
    num_layers: 12,
    num_heads: 12,
    feed_forward_proj: 'gated-gelu',
    tie_word_embeddings: false,
  });

  // Counted by hand for T5-v1.1-base: encoder 96.6, keys and values of cross attention 14.5, decoder 30.9 with the head.
  test('T5-v1.1-base at 512 source and 114 target tokens takes 142 GFLOP a row', () => {
    const causal = 2 * 114 * 114 * 12 * 768; // half of the decoder's own attention, which is not computed
    assert.equal(Math.round((forwardFlops(base, 512, 114) + causal) / 1e8) / 10, 142.0);
    assert.equal(stepFlops(base, 4, 512, 114), 12 * forwardFlops(base, 512, 114));
  });

  test('a feed-forward without a gate has two matrices', () => {
    const relu = t5Config({ ...base, feed_forward_proj: 'relu' });
    assert.equal(forwardFlops(base, 8, 0) - forwardFlops(relu, 8, 0), 8 * 12 * 2 * 768 * 2048);
  });
});
