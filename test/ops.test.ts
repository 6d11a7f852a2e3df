/** Differentiable functions on the tape: float64 finite differences judge the reference backend, and that the CPU. */
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { describe, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import type { Backend } from '../src/backend/backend.ts';
import { openReference } from '../src/backend/reference.ts';
import { activation, gatedActivation } from '../src/ops/activation/activation.ts';
import { add } from '../src/ops/add/add.ts';
import { addBias } from '../src/ops/bias/bias.ts';
import { crossEntropy } from '../src/ops/cross_entropy/cross_entropy.ts';
import { linearCrossEntropy } from '../src/ops/cross_entropy/linear_cross_entropy.ts';
import { dropout } from '../src/ops/dropout/dropout.ts';
import { embedding } from '../src/ops/embedding/embedding.ts';
import { linear } from '../src/ops/linear/linear.ts';
import { logSoftmax } from '../src/ops/log_softmax/log_softmax.ts';
import { meanPool } from '../src/ops/mean_pool/mean_pool.ts';
import { binaryCrossEntropyWithLogits, meanSquaredError } from '../src/ops/pointwise_loss/pointwise_loss.ts';
import { reshape } from '../src/ops/reshape.ts';
import { scale } from '../src/ops/scale/scale.ts';
import { selectRows } from '../src/ops/select_rows/select_rows.ts';
import { argmax, topK } from '../src/ops/top_k/top_k.ts';
import { transpose } from '../src/ops/transpose/transpose.ts';
import { differentiate, markParameter } from '../src/tensor/autograd.ts';
import { dispose, scope } from '../src/tensor/scope.ts';
import { Tensor } from '../src/tensor/tensor.ts';
import { IGNORED } from '../src/util/batch.ts';
import { testedBackend, testedDevice, uniform } from './harness.ts';

const V = 11;
const LABELS = [3, IGNORED, 10, 0, 7, 3];
/** What each label's loss is multiplied by. */
const weightsFor = ({ backend }: Tensor) => Tensor.from(backend, 'f32', [6], [0.5, 2, -1, 3, 0, 1.5]);

/** Leaves of every example: x [6,4] and s [2,3,4] activations, weight [11,4] and bias [4] parameters. */
interface Leaves {
  x: Tensor;
  s: Tensor;
  weight: Tensor;
  bias: Tensor;
  /** An int32 vector. */
  ints: (...values: number[]) => Tensor;
}

/** A loss to which every element of y matters differently. */
function square(y: Tensor): Tensor {
  const target = Tensor.from(
    y.backend,
    'f32',
    [y.length],
    Float32Array.from({ length: y.length }, (_, i) => Math.sin(i)),
  );
  return meanSquaredError(reshape(y, y.length), target);
}

const examples: Record<string, (leaves: Leaves) => Tensor> = {
  'add, a tensor with itself included': ({ x }) => square(add(add(x, x), x)),
  activation: ({ x }) => square(activation(x, 'tanh')),
  gatedActivation: ({ x, weight }) => square(gatedActivation(linear(x, weight), linear(x, weight), 'gelu_new')),
  addBias: ({ x, bias }) => square(addBias(x, bias)),
  dropout: ({ x, ints }) => square(dropout(x, ints(17, 3), 0.3, 5)),
  'embedding, used twice': ({ weight, ints }) =>
    square(add(embedding(weight, ints(3, 0, 3, 10)), embedding(weight, ints(10, 10, 1, 2)))),
  selectRows: ({ s, ints }) => square(selectRows(s, ints(5, 0, 5))),
  meanPool: ({ s, ints }) => square(meanPool(s, ints(0, 0, -1, -1, 0, 0).view(2, 3))),
  'transpose and scale': ({ x }) => square(scale(transpose(x), -1.5)),
  binaryCrossEntropyWithLogits: ({ x }) =>
    binaryCrossEntropyWithLogits(x, Tensor.from(x.backend, 'f32', x.shape, new Float32Array(24).fill(0.25))),
  'crossEntropy, its loss scaled': ({ x, weight, ints }) =>
    scale(
      crossEntropy(linear(x, weight), ints(...LABELS), { denominator: 5, labelSmoothing: 0.1, zLoss: 0.01 }).loss,
      3,
    ),
  'crossEntropy, its rows weighted': ({ x, weight, ints }) =>
    crossEntropy(linear(x, weight), ints(...LABELS), { denominator: 5, weights: weightsFor(x) }).loss,
  'linearCrossEntropy, its rows weighted': ({ x, weight, ints }) =>
    linearCrossEntropy(x, weight, ints(...LABELS), { denominator: 5, zLoss: 0.01, rows: 4, weights: weightsFor(x) })
      .loss,
  'linearCrossEntropy, the weight also an embedding': ({ x, weight, ints }) =>
    linearCrossEntropy(add(x, embedding(weight, ints(3, 1, 4, 1, 5, 9))), weight, ints(...LABELS), {
      denominator: 5,
      labelSmoothing: 0.1,
      zLoss: 0.01,
      alpha: 0.5,
      rows: 4,
    }).loss,
};

/** Runs an example; its loss, and the gradients of the leaves that have one. */
async function gradientsOf(backend: Backend, example: (leaves: Leaves) => Tensor, nudge: [number, number, number]) {
  const random = uniform(5);
  const [which, at, by] = nudge;
  const shapes = [[6, 4], [2, 3, 4], [V, 4], [4]];
  const before = backend.usage.bytes;
  const [x, s, weight, bias] = shapes.map((shape, k) => {
    const values = Float64Array.from({ length: shape.reduce((a, b) => a * b) }, () => Math.fround(2 * random() - 1));
    if (k === which) values[at]! += by;
    const tensor = Tensor.from(backend, 'f32', shape, new Float32Array(values.length));
    // The reference backend holds float64: nudged values must not be rounded.
    if (backend.name === 'reference') (tensor.memory as unknown as { values: Float64Array }).values.set(values);
    else tensor.write(values);
    return tensor;
  }) as [Tensor, Tensor, Tensor, Tensor];
  for (const leaf of [x, s]) leaf.needsGrad = true;
  const slots = [weight, bias].map((parameter) => {
    const grad = Tensor.from(backend, 'f32', parameter.shape, new Float32Array(parameter.length).fill(Number.NaN));
    markParameter(parameter, grad);
    return grad;
  });
  const ints = (...values: number[]) => Tensor.from(backend, 'i32', [values.length], values);
  const { loss } = differentiate(() => ({ loss: example({ x, s, weight, bias, ints }) }));
  const value =
    backend.name === 'reference'
      ? (loss.memory as unknown as { values: Float64Array }).values[0]!
      : (await loss.read())[0]!;
  const gradients: (number[] | undefined)[] = [];
  for (const leaf of [x, s, weight, bias]) {
    const wanted = leaf.grad && (leaf.gradWritten || leaf === x || leaf === s);
    gradients.push(wanted ? Array.from(await leaf.grad!.read()) : undefined);
  }
  dispose(x, s, weight, bias, loss, ...slots, ...[x, s].flatMap((leaf) => leaf.grad ?? []));
  assert.equal(backend.usage.bytes, before, 'nothing leaks');
  return { value, gradients };
}

describe('gradients on the tape', () => {
  for (const [name, example] of Object.entries(examples)) {
    test(`${name}: agree with finite differences`, async () => {
      const reference = openReference();
      const { gradients } = await gradientsOf(reference, example, [-1, 0, 0]);
      assert.ok(gradients.some((g) => g));
      const h = 1e-5;
      for (const [which, g] of gradients.entries())
        for (const at of g ? [0, Math.floor(g.length / 2), g.length - 1] : []) {
          const up = await gradientsOf(reference, example, [which, at, h]);
          const down = await gradientsOf(reference, example, [which, at, -h]);
          const numeric = (up.value - down.value) / (2 * h);
          assert.ok(
            Math.abs(numeric - g![at]!) < 1e-6,
            `leaf ${which}[${at}]: ${g![at]}, finite difference ${numeric}`,
          );
        }
    });

    test(`${name}: CPU as reference`, async () => {
      const want = await gradientsOf(openReference(), example, [-1, 0, 0]);
      const got = await gradientsOf(testedBackend(), example, [-1, 0, 0]);
      assert.ok(Math.abs(got.value - want.value) < 1e-5, `loss ${got.value}, expected ${want.value}`);
      for (const [which, g] of want.gradients.entries())
        g?.forEach((w, i) => {
          const v = got.gradients[which]![i]!;
          assert.ok(Math.abs(v - w) < 1e-5, `leaf ${which}[${i}] = ${v}, expected ${w}`);
        });
    });
  }
});

const cpu = testedBackend();
const f32 = (shape: number[], values: ArrayLike<number>) => Tensor.from(cpu, 'f32', shape, values);
const i32 = (...values: number[]) => Tensor.from(cpu, 'i32', [values.length], values);

test('cross entropy: the statistics count plain likelihood, right guesses and labels, in any chunking', async () => {
  const random = uniform(9);
  const fill = (n: number) => Float32Array.from({ length: n }, () => 4 * random() - 2);
  const [xs, ws] = [fill(24), fill(V * 4)];
  const options = { denominator: 5, labelSmoothing: 0.2, zLoss: 0.1 };
  let nll = 0;
  let z = 0;
  let correct = 0;
  LABELS.forEach((label, n) => {
    if (label === IGNORED) return;
    const logits = Array.from({ length: V }, (_, v) =>
      [0, 1, 2, 3].reduce((t, d) => t + xs[n * 4 + d]! * ws[v * 4 + d]!, 0),
    );
    const lse = Math.log(logits.reduce((t, l) => t + Math.exp(l), 0));
    nll += lse - logits[label]!;
    z += 0.1 * lse * lse;
    if (logits.every((l) => l <= logits[label]!)) correct++;
  });
  for (const rows of [1, 4, 6, undefined]) {
    const { loss, stats } = scope(() =>
      linearCrossEntropy(f32([6, 4], xs), f32([V, 4], ws), i32(...LABELS), { ...options, rows }),
    );
    const got = await stats.read();
    [nll, z, correct, 5].forEach((want, i) => {
      assert.ok(Math.abs(got[i]! - want) < 1e-4, `rows ${rows}: stats[${i}] = ${got[i]}, expected ${want}`);
    });
    assert.ok((await loss.read())[0]! > 0);
    dispose(loss);
  }
});

test('cross entropy: of equal largest logits only the first counts as the guess', async () => {
  for (const backend of [openReference(), cpu])
    for (const [label, right] of [
      [1, 1],
      [2, 0],
    ]) {
      const logits = Tensor.from(backend, 'f32', [1, 4], [1, 3, 3, 0]);
      const labels = Tensor.from(backend, 'i32', [1], [label!]);
      const { stats } = scope(() => crossEntropy(logits, labels, { denominator: 1 }));
      assert.equal((await stats.read())[2], right, `${backend.name}, label ${label}`);
      dispose(logits, labels, stats);
    }
});

test('top-k gives the lower index first among equals; argmax is its first', async () => {
  const { values, ids } = scope(() => topK(f32([2, 5], [1, 3, 3, 0, 3, -1, -2, -1, -2, -3]), 3));
  assert.deepEqual(Array.from(await ids.read()), [1, 2, 4, 0, 2, 1]);
  assert.deepEqual(Array.from(await values.read()), [3, 3, 3, -1, -1, -2]);
  const first = scope(() => argmax(f32([2, 5], [1, 3, 3, 0, 3, -1, -2, -1, -2, -3])));
  assert.deepEqual([...first.shape, ...(await first.read())], [2, 1, 0]);
  assert.throws(() => scope(() => topK(f32([1, 2], [1, 2]), 3)), { name: 'ShapeError', message: /1 <= K <= V/ });
  dispose(values, ids, first);
});

test('log-softmax survives infinite logits', async () => {
  const y = scope(() => logSoftmax(f32([1, 3], [-Infinity, 1000, 1000])));
  const [masked, a, b] = await y.read();
  assert.equal(masked, -Infinity);
  assert.ok(Math.abs(a! + Math.LN2) < 1e-4 && a === b);
  dispose(y);
});

const unchecked = testedDevice === 'cuda' && 'kernels on a GPU cannot refuse: what users give is checked before';

test('an id or label outside its range is refused, and named', { skip: unchecked }, () => {
  const table = () => f32([3, 2], new Float32Array(6));
  for (const bad of [3, -1])
    assert.throws(() => scope(() => embedding(table(), i32(0, bad))), {
      name: 'BackendError',
      message: 'embedding_forward: an id or label lies outside its range, sizes V=3 D=2 N=2',
    });
  assert.throws(() => scope(() => crossEntropy(table(), i32(0, 1, 2), { denominator: 3 })), { name: 'BackendError' });
  assert.throws(() => scope(() => selectRows(table(), i32(4))), { name: 'BackendError' });
});

test('linear cross entropy refuses rows that do not match the labels', () => {
  const call = () =>
    linearCrossEntropy(f32([2, 4], new Float32Array(8)), f32([V, 4], new Float32Array(V * 4)), i32(1), {
      denominator: 1,
    });
  assert.throws(() => scope(call), { name: 'ShapeError', message: 'linearCrossEntropy: x is [2,4], expected [1,4]' });
});

test('docs/ops.md is what the contracts say', () => {
  const file = (name: string) => fileURLToPath(new URL(`../../${name}`, import.meta.url));
  const table = execFileSync(process.execPath, [file('scripts/op_table.mjs')], { encoding: 'utf8' });
  assert.equal(readFileSync(file('docs/ops.md'), 'utf8'), table, 'run npm run ops-table');
});
