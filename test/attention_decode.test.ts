import assert from 'node:assert/strict';
import { test } from 'node:test';
import { attention } from '../src/ops/attention/attention.ts';
import { appendToCache, attendCache } from '../src/ops/attention_decode/attention_decode.ts';
import { dispose, scope } from '../src/tensor/scope.ts';
import { Tensor } from '../src/tensor/tensor.ts';
import { testedBackend, testedDevice } from './harness.ts';
import { randomTensor } from './two_attention_layers.ts';

const backend = testedBackend();
const int32 = (...values: number[]) => Tensor.from(backend, 'i32', [values.length], values);
const rowsOf = (x: Float32Array, t: number, S: number, size: number) =>
  [0, 1].flatMap((b) => Array.from(x.subarray((b * S + t) * size, (b * S + t + 1) * size)));

test('decoding token by token gives what causal attention gives at once', async () => {
  const [B, S, H, D] = [2, 9, 3, 16];
  const whole = [1, 2, 3].map((seed) => randomTensor(seed, B, S, H, D)) as [Tensor, Tensor, Tensor];
  const bias = randomTensor(4, H, 9);
  const want = attention(...whole, { bias, causal: true, scale: 0.3 });
  const expected = (await want.read()) as Float32Array;
  const [q, k, v] = (await Promise.all(whole.map((t) => t.read()))) as [Float32Array, Float32Array, Float32Array];
  const cache = { keys: randomTensor(5, B, S + 2, H, D), values: randomTensor(6, B, S + 2, H, D) };
  for (let t = 0; t < S; t++) {
    const token = (x: Float32Array) => Tensor.from(backend, 'f32', [B, 1, H, D], rowsOf(x, t, S, H * D));
    const out = scope(() => {
      const position = int32(t, t);
      appendToCache(cache, token(k), token(v), position);
      return attendCache(token(q), cache, { position, bias, scale: 0.3 });
    });
    assert.deepEqual(out.shape, [B, 1, H, D]);
    const got = (await out.read()) as Float32Array;
    rowsOf(expected, t, S, H * D).forEach((e, i) => {
      assert.ok(Math.abs(got[i]! - e) < 1e-5, `token ${t}: out[${i}] = ${got[i]}, expected ${e}`);
    });
    dispose(out);
  }
  dispose(...whole, bias, want, cache.keys, cache.values);
});

const unchecked = testedDevice === 'cuda' && 'kernels on a GPU cannot refuse';

test('a position outside the cache is refused', { skip: unchecked }, () => {
  const cache = { keys: randomTensor(1, 1, 4, 2, 8), values: randomTensor(2, 1, 4, 2, 8) };
  const x = randomTensor(3, 1, 2, 8);
  for (const at of [-1, 4]) {
    const position = int32(at);
    assert.throws(() => appendToCache(cache, x, x, position), { name: 'BackendError' });
    assert.throws(() => attendCache(x, cache, { position }), { name: 'BackendError' });
    dispose(position);
  }
  dispose(cache.keys, cache.values, x);
});
