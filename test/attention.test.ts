import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { fromHost } from '../src/backend/dtype.ts';
import { attention } from '../src/ops/attention/attention.ts';
import { differentiate, markParameter } from '../src/tensor/autograd.ts';
import { dispose } from '../src/tensor/scope.ts';
import { Tensor } from '../src/tensor/tensor.ts';
import { testedBackend } from './harness.ts';
import { randomTensor, twoLayers } from './two_attention_layers.ts';

const backend = testedBackend();

test('the gradient of a table that two layers share adds up to zero in each head', async () => {
  const before = backend.usage.bytes;
  const { dtable } = await twoLayers();
  assert.equal(backend.usage.bytes, before, 'nothing leaks');
  // Softmax does not change when a row's scores all grow by the same, so a head's gradients add up to zero.
  for (const h of [0, 1]) {
    let total = 0;
    let size = 0;
    for (let bucket = 0; bucket < 32; bucket++) {
      total += dtable[2 * bucket + h]!;
      size += Math.abs(dtable[2 * bucket + h]!);
    }
    assert.ok(size > 1 && Math.abs(total) < 1e-4 * size, `sum ${total} of absolute sum ${size}`);
  }
});

test('the same bits whatever the number of threads', async () => {
  const program = fileURLToPath(new URL('./two_attention_layers.js', import.meta.url));
  const withThreads = (threads: string) =>
    execFileSync(process.execPath, [program, 'print'], {
      encoding: 'utf8',
      env: { ...process.env, FAT5_THREADS: threads },
    });
  const one = withThreads('1');
  assert.ok(one.length > 1000);
  assert.deepEqual(withThreads('3'), one);
});

test('query segments without key segments are refused', () => {
  const x = randomTensor(1, 1, 2, 1, 8);
  const querySegments = Tensor.from(backend, 'i32', [1, 2], [0, 0]);
  assert.throws(() => attention(x, x, x, { querySegments }), { name: 'ShapeError', message: /without keySegments/ });
  dispose(x, querySegments);
});

test('what threads computed before has no part in the gradients of a few queries with dropout', async () => {
  const table = async (queries: number, value?: number) => {
    const shape = [2, queries, 2, 16];
    const [q, k, v, dout] = [1, 2, 3, 4].map((seed) =>
      value === undefined
        ? randomTensor(seed, ...shape)
        : Tensor.from(backend, 'f32', shape, new Float32Array(2 * queries * 2 * 16).fill(value)),
    ) as [Tensor, Tensor, Tensor, Tensor];
    const [bias, rng] = [randomTensor(5, 2, 41), Tensor.from(backend, 'i32', [2], [1, 2])];
    const dbias = randomTensor(6, 2, 41);
    dbias.write(new Float32Array(2 * 41));
    markParameter(bias, dbias);
    const { loss } = differentiate(() => {
      return { loss: attention(q, k, v, { bias, dropout: { rate: 0.1, rng, site: 1 } }) };
    }, dout);
    const result = (await dbias.read()) as Float32Array;
    dispose(q, k, v, dout, bias, rng, dbias, loss);
    return result;
  };
  for (const queries of [1, 9, 20, 24]) {
    const before = await table(queries);
    await table(130, Number.NaN); // leaves its mark in the threads' memory
    const after = await table(queries);
    assert.ok(after.every(Number.isFinite), `${queries} queries`);
    assert.deepEqual(after, before);
  }
});

test('scores that grow by far from one key to the next refer to the largest of all', async () => {
  const [M, N] = [200, 256];
  for (const dtype of ['f32', 'bf16'] as const)
    for (const D of [64, 128]) {
      const filled = (rows: number, value: (row: number, d: number) => number) =>
        Tensor.from(
          backend,
          dtype,
          [1, rows, 1, D],
          Float32Array.from({ length: rows * D }, (_, i) => value(Math.floor(i / D), i % D)),
        );
      // Scores 0, 1, 2, ...: the last tile's shares are e^192 times the first one's.
      const q = filled(M, (_, d) => Number(d === 0));
      const k = filled(N, (n, d) => (d === 0 ? n : 0));
      const v = filled(N, (n) => n % 3);
      const out = attention(q, k, v);
      const got = fromHost(dtype, await out.read());
      let [sum, total] = [0, 0];
      for (let n = 0; n < N; n++) {
        sum += Math.exp(n - N) * (n % 3);
        total += Math.exp(n - N);
      }
      for (const x of got) assert.ok(Math.abs(x - sum / total) < 0.01, `${dtype}, ${D}: ${x}, ${sum / total}`);
      dispose(q, k, v, out);
    }
});
