/** Positional encodings against their formulas. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { t5Config } from '../src/model/config.ts';
import { alibiBias, alibiSlopes } from '../src/model/positions.ts';

test("ALiBi's slopes are powers of two, with every other one of the next power between where heads are left", () => {
  assert.deepEqual(alibiSlopes(8), [1 / 2, 1 / 4, 1 / 8, 1 / 16, 1 / 32, 1 / 64, 1 / 128, 1 / 256]);
  assert.deepEqual(alibiSlopes(4), [1 / 4, 1 / 16, 1 / 64, 1 / 256]);
  assert.deepEqual(alibiSlopes(6), [1 / 4, 1 / 16, 1 / 64, 1 / 256, 1 / 2, 1 / 8]);
  assert.equal(alibiSlopes(12).length, 12);
  assert.deepEqual(alibiSlopes(12).slice(8), [2 ** -0.5, 2 ** -1.5, 2 ** -2.5, 2 ** -3.5]);
});

test('symmetric ALiBi falls off linearly on both sides', () => {
  const c = t5Config({ num_heads: 2, position_encoding_type: 'alibi' });
  const [a, b] = [1 / 16, 1 / 256];
  assert.deepEqual([...alibiBias(c, 'encoder', 3)], [-2 * a, -a, -0, -a, -2 * a, -2 * b, -b, -0, -b, -2 * b]);
});

test('asymmetric ALiBi: half of the heads see the past, half the future, with the same slopes', () => {
  const c = t5Config({ num_heads: 2, position_encoding_type: 'alibi', alibi_mode: 'asymmetric' });
  const s = 1 / 256;
  const no = Number.NEGATIVE_INFINITY;
  assert.deepEqual([...alibiBias(c, 'encoder', 3)], [-2 * s, -s, -0, no, no, no, no, -0, -s, -2 * s]);
  assert.ok(alibiBias(c, 'decoder', 3).every(Number.isFinite), 'a causal decoder has no heads for the future');
});
