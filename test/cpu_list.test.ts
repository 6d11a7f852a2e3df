/** Launches that the CPU runs as a list, in one call. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { openCpu } from '../src/backend/cpu/cpu.ts';
import { add } from '../src/ops/add/add.ts';
import { embedding } from '../src/ops/embedding/embedding.ts';
import { scale } from '../src/ops/scale/scale.ts';
import { dispose, scope } from '../src/tensor/scope.ts';
import { Tensor } from '../src/tensor/tensor.ts';
import { BackendError } from '../src/util/errors.ts';

const backend = openCpu();
const vector = (...values: number[]) => Tensor.from(backend, 'f32', [values.length], values);

test('a list does nothing when it is made, and works on what is in memory when it runs', async () => {
  const [x, y] = [vector(1, 2, 3), vector(10, 20, 30)];
  let result: Tensor | undefined;
  const list = backend.list!(() => {
    result = scope(() => add(scale(add(x, y), -0.5), y));
  });
  for (const values of [
    [1, 2, 3],
    [-7, 0, 5],
  ]) {
    x.write(values);
    list.run();
    assert.deepEqual(
      [...(await result!.read())],
      values.map((v, i) => -0.5 * (v + 10 * (i + 1)) + 10 * (i + 1)),
    );
  }
  list.dispose();
  dispose(x, y, result!);
});

test('memory between the launches of a list, and host values in it, are nobody else’s until it is disposed of', async () => {
  const before = backend.usage.bytes;
  const x = vector(1, 2);
  let result: Tensor | undefined;
  const list = backend.list!(() => {
    result = scope(() => add(add(x, vector(5, 6)), add(x, x)));
  });
  const others = Array.from({ length: 6 }, () => vector(-1, -1));
  list.run();
  assert.deepEqual([...(await result!.read())], [8, 12]);
  for (const other of others) {
    assert.deepEqual([...(await other.read())], [-1, -1]);
    other.write([-2, -2]);
  }
  list.run();
  assert.deepEqual([...(await result!.read())], [8, 12]);
  list.dispose();
  dispose(x, result!, ...others);
  assert.equal(backend.usage.bytes, before);
});

test('lists that follow each other use the same memory', () => {
  const x = vector(1, 2);
  const addresses = new Set<number>();
  for (let i = 0; i < 20; i++) {
    let result: Tensor | undefined;
    const list = backend.list!(() => {
      result = scope(() => add(add(x, vector(5, 6)), x));
    });
    addresses.add((result!.memory as object as { address: number }).address);
    list.dispose();
    dispose(result!);
  }
  dispose(x);
  assert.ok(addresses.size <= 4, `${addresses.size} blocks for one result`);
});

test('work whose shapes change keeps little more memory than its largest', () => {
  const before = process.memoryUsage.rss();
  const largest = 32 << 20;
  for (let i = 0; i < 40; i++) {
    const length = (largest / 4) * (1 - ((i * 27) % 40) / 45); // 40 sizes out of order
    dispose(Tensor.from(backend, 'f32', [Math.floor(length)], new Float32Array(Math.floor(length))));
  }
  const grown = process.memoryUsage.rss() - before;
  assert.ok(grown < 4 * largest, `${Math.round(grown / 2 ** 20)} MiB more, of which the host's arrays are a part`);
});

test('a launch of a list that fails says which', () => {
  const table = Tensor.from(backend, 'f32', [3, 2], new Float32Array(6));
  const ids = Tensor.from(backend, 'i32', [1, 1], [1]);
  let result: Tensor | undefined;
  const list = backend.list!(() => {
    result = scope(() => scale(embedding(table, ids), 2));
  });
  list.run();
  ids.write([3]);
  assert.throws(() => list.run(), {
    name: BackendError.name,
    message: /^embedding_forward: an id or label lies outside its range/,
  });
  list.dispose();
  dispose(table, ids, result!);
});
