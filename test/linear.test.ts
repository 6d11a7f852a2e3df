/** linear as the model uses it: leading dimensions, shared inputs, where gradients go. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { linear, linears } from '../src/ops/linear/linear.ts';
import { differentiate } from '../src/tensor/autograd.ts';
import { Parameters } from '../src/tensor/parameters.ts';
import { scope } from '../src/tensor/scope.ts';
import { Tensor } from '../src/tensor/tensor.ts';
import { ShapeError } from '../src/util/errors.ts';
import { testedBackend } from './harness.ts';

const cpu = testedBackend();
const f32 = (shape: number[], values: number[]) => Tensor.from(cpu, 'f32', shape, values);
const close = (got: ArrayLike<number>, want: number[]) => {
  assert.equal(got.length, want.length);
  for (const [i, v] of want.entries()) assert.ok(Math.abs(got[i]! - v) < 1e-5, `[${i}] is ${got[i]}, expected ${v}`);
};

test('linear keeps leading dimensions and scales by alpha', async () => {
  const x = f32([2, 1, 3], [1, 2, 3, -1, 0, 2]);
  const weight = f32([2, 3], [1, 0, -1, 2, 1, 1]);
  const y = linear(x, weight, { alpha: 0.5 });
  assert.deepEqual(y.shape, [2, 1, 2]);
  close(await y.read(), [-1, 3.5, -1.5, 0]);
});

test('linears adds the gradients of all its outputs to the shared input, and each weight gets its own', async () => {
  const parameters = new Parameters(cpu, 'f32', [
    { name: 'a', shape: [1, 2] },
    { name: 'b', shape: [1, 2] },
  ]);
  parameters.trainable();
  parameters.get('a').write([2, 3]);
  parameters.get('b').write([-1, 4]);
  const x = f32([1, 2], [5, 7]);
  x.needsGrad = true;
  const step = () =>
    differentiate(() => {
      const [a, b] = linears(x, [parameters.get('a'), parameters.get('b')]);
      return { loss: linear(a!, b!) }; // a * b
    });
  const { loss } = step(); // a = 31, b = 23
  close(await loss.read(), [713]);
  close(await x.grad!.read(), [2 * 23 - 31, 3 * 23 + 4 * 31]);
  close(await parameters.get('a').grad!.read(), [5 * 23, 7 * 23]);
  close(await parameters.get('b').grad!.read(), [5 * 31, 7 * 31]);
  step(); // gradients of a second micro-batch are added
  close(await parameters.get('b').grad!.read(), [10 * 31, 14 * 31]);
  parameters.dispose();
});

test('a gradient that was never written is not read', async () => {
  const parameters = new Parameters(cpu, 'f32', [{ name: 'w', shape: [3, 2] }]);
  parameters.trainable();
  const w = parameters.get('w');
  w.write([1, 2, 3, 4, 5, 6]);
  w.grad!.write(new Float32Array(6).fill(Number.NaN));
  const x = f32([1, 2], [1, -1]);
  x.needsGrad = true;
  // The seed's gradient of x goes into fresh memory, which holds whatever was there: NaN here.
  scope(() => void f32([1, 2], [Number.NaN, Number.NaN]));
  differentiate(() => ({ loss: linear(x, w) }));
  close(await x.grad!.read(), [9, 12]);
  close(await w.grad!.read(), [1, -1, 1, -1, 1, -1]);
  parameters.dispose();
});

test('a frozen weight gets no gradient and a frozen input none', () => {
  const x = f32([1, 2], [1, 2]);
  const w = f32([1, 2], [3, 4]);
  w.needsGrad = true;
  differentiate(() => ({ loss: linear(x, w) }));
  assert.equal(x.grad, undefined);
  assert.deepEqual(w.grad!.shape, [1, 2]);
  const frozen = f32([1, 2], [3, 4]);
  x.needsGrad = true;
  differentiate(() => ({ loss: linear(x, frozen) }));
  assert.equal(frozen.grad, undefined);
});

test('a weight of another width is a ShapeError that names both sizes', () => {
  assert.throws(
    () => linear(f32([1, 2], [1, 2]), f32([1, 3], [1, 2, 3])),
    (e) => e instanceof ShapeError && /weight is \[1,3\], expected \[O,I\] with I=2 \(from x\)/.test(e.message),
  );
});
