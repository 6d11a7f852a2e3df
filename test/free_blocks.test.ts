/** Free memory: what is handed out never overlaps, and comes together again. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Heap } from '../src/backend/cpu/heap.ts';
import { FreeBlocks } from '../src/backend/free_blocks.ts';

test('the smallest block that is large enough is taken, and neighbours join when they are given back', () => {
  const free = new FreeBlocks();
  free.give(1000, 100);
  free.give(3000, 50);
  free.give(2000, 60);
  assert.equal(free.take(51), 2000);
  assert.equal(free.take(50), 3000);
  assert.equal(free.take(101), 0);
  free.give(1100, 40);
  assert.equal(free.before(1140), 140);
  assert.equal(free.take(140), 1000);
  free.give(1000, 50);
  free.give(1100, 40);
  free.give(1050, 50); // between two
  assert.equal(free.take(140), 1000);
});

test('addresses are taken away only where all of them are free', () => {
  const free = new FreeBlocks();
  free.give(1000, 100);
  assert.equal(free.takeAt(990, 20), false);
  assert.equal(free.takeAt(1090, 20), false);
  assert.equal(free.takeAt(1040, 20), true);
  assert.equal(free.before(1040), 40);
  assert.equal(free.before(1100), 40);
  assert.equal(free.take(41), 0);
});

test('blocks of the heap do not overlap, and all memory returns to the system when nobody uses any', () => {
  const pieces = new Map<number, number>();
  let next = 1 << 30;
  const heap = new Heap({
    alloc: (bytes) => {
      pieces.set(next, bytes);
      next += bytes + 4096;
      return next - bytes - 4096;
    },
    free: (address) => assert.ok(pieces.delete(address), `${address}`),
  });
  const used = new Map<number, number>();
  let seed = 7;
  const random = (n: number) => {
    seed = (seed * 1103515245 + 12345) % 2147483648;
    return seed % n;
  };
  for (let i = 0; i < 3000; i++) {
    const give = [...used][random(40)];
    if (give) {
      heap.give(...give);
      used.delete(give[0]);
    }
    const bytes = Heap.sizeOf(random(4) === 0 ? random(30 << 20) : random(9000));
    const address = heap.take(bytes);
    for (const [other, size] of used) assert.ok(address + bytes <= other || other + size <= address);
    assert.ok([...pieces].some(([piece, size]) => piece <= address && address + bytes <= piece + size));
    used.set(address, bytes);
    if (used.size > 40) {
      const [first, size] = [...used][0]!;
      heap.give(first, size);
      used.delete(first);
    }
  }
  for (const [address, bytes] of used) heap.give(address, bytes);
  heap.trim();
  assert.equal(pieces.size, 0);
});
