import assert from 'node:assert/strict';
import { test } from 'node:test';
import { dropoutFactor, philox4x32 } from '../src/util/philox.ts';

const hex = (words: readonly number[]) => words.map((w) => w.toString(16).padStart(8, '0')).join(' ');

test("philox4x32-10 gives Random123's published vectors", () => {
  const ones = 0xffffffff;
  assert.equal(hex(philox4x32([0, 0, 0, 0], [0, 0])), '6627e8d5 e169c58d bc57ac4c 9b00dbd8');
  assert.equal(hex(philox4x32([ones, ones, ones, ones], [ones, ones])), '408f276d 41c83b0e a20bc7c6 6d5451fd');
  assert.equal(
    hex(philox4x32([0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344], [0xa4093822, 0x299f31d0])),
    'd16cfe09 94fdcceb 5001e420 24126ea1',
  );
});

test('dropout keeps its share of the elements and their expected sum', () => {
  const factors = Array.from({ length: 20000 }, (_, e) => dropoutFactor([7, 3], 5, e, 0.1));
  const kept = factors.filter((f) => f > 0);
  assert.ok(Math.abs(kept.length / 20000 - 0.9) < 0.01, `${kept.length} of 20000 kept`);
  assert.ok(kept.every((f) => Math.abs(f - 1 / 0.9) < 1e-6));
  assert.notDeepEqual(factors.slice(0, 200), factors.slice(200, 400));
});
