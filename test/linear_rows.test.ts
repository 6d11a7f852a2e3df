import assert from 'node:assert/strict';
import { test } from 'node:test';
import { openCpu } from '../src/backend/cpu/cpu.ts';
import { linearRows } from '../src/ops/linear_rows/linear_rows.ts';
import { Tensor } from '../src/tensor/tensor.ts';
import { uniform } from './harness.ts';

const backend = openCpu();
const tensor = (values: ArrayLike<number>, ...shape: number[]) => Tensor.from(backend, 'f32', shape, values);
const random = uniform(4);
const normal = () => Math.sqrt(-2 * Math.log(1 - random())) * Math.cos(2 * Math.PI * random());
const normals = (length: number) => Float32Array.from({ length }, normal);

test("a row's outputs are the same bits in any number of rows", async () => {
  const [I, O] = [131, 77];
  const x = normals(39 * I);
  const weights = [tensor(normals(O * I), O, I), tensor(normals(20 * I), 20, I)];
  const outputs = async (first: number, count: number) => {
    const ys = linearRows(tensor(x.subarray(first * I, (first + count) * I), count, I), weights, { alpha: 0.7 });
    return Promise.all(ys.map((y) => y.read()));
  };
  const all = await outputs(0, 39);
  for (const count of [1, 2, 3, 5, 8, 17, 31])
    for (const [j, part] of (await outputs(4, count)).entries()) {
      const width = [O, 20][j]!;
      assert.deepEqual(part, all[j]!.slice(4 * width, (4 + count) * width), `${count} rows, output ${j}`);
    }
});
