/** What no tensor can be and no kernel can do: one error that names it, and a process that goes on. */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import type { Backend } from '../src/backend/backend.ts';
import type { DType, FloatType } from '../src/backend/dtype.ts';
import { bindSizes, parsePattern, shapeOf } from '../src/backend/kernel.ts';
import { openReference } from '../src/backend/reference.ts';
import { activation } from '../src/ops/activation/activation.ts';
import { gatedHalves } from '../src/ops/activation/gated_halves.ts';
import { add } from '../src/ops/add/add.ts';
import { advanceKernel } from '../src/ops/advance/advance.ts';
import { attention } from '../src/ops/attention/attention.ts';
import { attendCache } from '../src/ops/attention_decode/attention_decode.ts';
import { embedding } from '../src/ops/embedding/embedding.ts';
import { linear, linears } from '../src/ops/linear/linear.ts';
import { logSoftmax } from '../src/ops/log_softmax/log_softmax.ts';
import { kernels } from '../src/ops/registry.ts';
import { rmsNorm } from '../src/ops/rms_norm/rms_norm.ts';
import { rope } from '../src/ops/rope/rope.ts';
import { sampleToken } from '../src/ops/sample_token/sample_token.ts';
import { topK } from '../src/ops/top_k/top_k.ts';
import { run } from '../src/tensor/autograd.ts';
import { scope } from '../src/tensor/scope.ts';
import { elements, Tensor } from '../src/tensor/tensor.ts';
import { testedBackend, testedDevice } from './harness.ts';

/** A tensor of zeros. */
const ofType = (backend: Backend, dtype: DType, ...shape: number[]) =>
  Tensor.from(backend, dtype, shape, new Float32Array(elements(shape)));

test('no kernel is given an empty dimension', () => {
  for (const kernel of kernels) {
    const { sizes, absent = [] } = kernel.cases[0]!;
    const given = Object.entries({ ...kernel.inputs, ...kernel.updates }).filter(([name]) => !absent.includes(name));
    const letters = new Set(given.flatMap(([, pattern]) => parsePattern(pattern).dims.filter((dim) => dim in sizes)));
    for (const letter of letters) {
      const without = { ...sizes, [letter]: 0 };
      const shapes = Object.fromEntries(given.map(([name, pattern]) => [name, shapeOf(pattern, without)]));
      assert.throws(() => bindSizes(kernel, shapes, without), {
        name: 'ShapeError',
        message: new RegExp(`^${kernel.name}: \\w+ is \\[[\\d,]+\\], expected .* with no empty dimension$`),
      });
    }
  }
});

for (const backend of [openReference(), testedBackend()])
  describe(backend.name, () => {
    const f32 = (...shape: number[]) => ofType(backend, 'f32', ...shape);
    const i32 = (...shape: number[]) => ofType(backend, 'i32', ...shape);
    const refused = (message: RegExp, f: () => unknown, name = 'ShapeError') =>
      scope(() => void assert.throws(f, { name, message }));

    test('a shape is whole numbers from 0 on, as many elements as there are', () => {
      for (const shape of [[-1], [-2, -3], [1.5, 2], [Number.NaN], [2 ** 30, 2 ** 30], [Number.POSITIVE_INFINITY]])
        refused(/^shape: is \[.*\], expected whole numbers from 0 on whose product is below 2\^53$/, () =>
          Tensor.empty(backend, 'f32', shape),
        );
      refused(/^shape: is \[-2,-3\]/, () => f32(6).view(-2, -3));
      refused(/^Tensor: shape is \[4\], expected one of the 6 elements of its memory$/, () => f32(6).view(4));
      refused(/^Tensor.write: 5 values into \[2,3\]$/, () => f32(2, 3).write(new Float32Array(5)));
    });

    test('host arrays are as long and as wide as the memory', async () => {
      const memory = backend.alloc('f32', 6);
      const fits = (name: string) => ({
        name: 'BackendError',
        message: `memory: ${name}, expected 6 of f32`,
      });
      assert.throws(() => backend.write(memory, new Float32Array(5)), fits('5 host elements of 4 bytes'));
      assert.throws(() => backend.write(memory, new Uint16Array(6)), fits('6 host elements of 2 bytes'));
      await assert.rejects(backend.read(memory, new Float32Array(7)), fits('7 host elements of 4 bytes'));
      backend.free(memory);
    });

    test('a part lies inside its tensor', () => {
      for (const [start, count] of [
        [4, 3],
        [-1, 2],
        [7, 0],
        [0, -1],
        [0.5, 1],
        [Number.NaN, 1],
      ] as const)
        refused(/^Tensor.part: is \[.*\) of \[2,3\], expected a range of its 6 elements$/, () =>
          f32(2, 3).part(start, count),
        );
    });

    test('more memory than there is', () => {
      const { bytes } = backend.usage;
      refused(/^\w+: out of memory for /, () => Tensor.empty(backend, 'f32', [2 ** 50]), 'BackendError');
      assert.equal(backend.usage.bytes, bytes);
    });

    test('ops refuse empty tensors', () => {
      const empty = / is \[.*\], expected .* with no empty dimension$/;
      refused(empty, () => linear(f32(0, 4), f32(3, 4)));
      refused(empty, () => linear(f32(2, 4), f32(0, 4)));
      refused(empty, () => add(f32(0), f32(0)));
      refused(empty, () => activation(f32(0), 'gelu'));
      refused(empty, () => embedding(f32(5, 4), i32(0)));
      refused(empty, () => attention(f32(1, 0, 2, 8), f32(1, 0, 2, 8), f32(1, 0, 2, 8)));
      refused(/^shape: is \[NaN,0\]/, () => linear(f32(2, 0), f32(3, 0)));
      refused(/^shape: is \[NaN,0\]/, () => logSoftmax(f32(2, 0)));
      refused(/^shape: is \[NaN,2,0\]/, () => gatedHalves(f32(3, 0), 'relu'));
    });

    test('ops refuse other types and shapes', () => {
      refused(/^add: b is \[5\], expected \[N\] with N=6 \(from a\)$/, () => add(f32(6), f32(5)));
      refused(/^add: b is bf16, expected f32 \(T\)$/, () => add(f32(6), ofType(backend, 'bf16', 6)));
      refused(/^add: a is i32, expected a float type \(T\)$/, () => add(i32(6), i32(6)));
      refused(/^embedding_forward: ids is f32, expected i32$/, () => embedding(f32(5, 4), f32(2)));
      refused(/^linear_forward: weight is \[3,5\], expected \[O,I\] with I=4 \(from x\)$/, () =>
        linear(f32(2, 4), f32(3, 5)),
      );
      refused(/^rms_norm_forward: weight is \[4,1\], expected \[D\]$/, () => rmsNorm(f32(2, 4), f32(4, 1), 1e-6));
      refused(/^top_k: needs 1 <= K <= V, got /, () => topK(f32(2, 4), 5));
      refused(/^attention: querySegments are given without keySegments/, () =>
        attention(f32(1, 2, 1, 8), f32(1, 2, 1, 8), f32(1, 2, 1, 8), { querySegments: i32(1, 2) }),
      );
      const cache = { keys: f32(1, 4, 1, 8), values: f32(1, 4, 1, 8) };
      refused(/^attention_decode: bias is given without position/, () =>
        attendCache(f32(1, 1, 8), cache, { bias: f32(1, 3) }),
      );
      for (const rotated of [10, 3, -2, Number.NaN])
        refused(/^rope: rotated is .*, expected an even number up to the width of x \[1,1,1,8\]$/, () =>
          rope(f32(1, 1, 1, 8), { rotated, base: 10000, interleaved: false }),
        );
    });

    test('tensors of two backends do not meet', () => {
      const other = backend.name === 'reference' ? testedBackend() : openReference();
      const b = ofType(other, 'f32', 6);
      refused(new RegExp(`^add: b lives on ${other.name}, expected ${backend.name}$`), () => add(f32(6), b));
      other.free(b.memory.base);
    });

    test('four weights on one input give four results', () => {
      const x = f32(2, 4);
      const shapes = scope(() => linears(x, [f32(3, 4), f32(5, 4), f32(6, 4), f32(7, 4)])).map((y) => [...y.shape]);
      assert.deepEqual(shapes, [
        [2, 3],
        [2, 5],
        [2, 6],
        [2, 7],
      ]);
    });
  });

test('the CPU refuses ids, labels and positions outside their range', { skip: testedDevice !== 'cpu' }, () => {
  const backend = testedBackend();
  const ints = (...values: number[]) => Tensor.from(backend, 'i32', [values.length], values);
  const f32 = (...shape: number[]) => ofType(backend, 'f32', ...shape);
  const outside = (kernel: string, f: () => unknown) =>
    scope(
      () =>
        void assert.throws(f, {
          name: 'BackendError',
          message: new RegExp(`^${kernel}: an id or label lies outside its range, sizes `),
        }),
    );
  for (const id of [-1, 5, 2 ** 31 - 1, -(2 ** 31)]) {
    outside('embedding_forward', () => embedding(f32(5, 4), ints(1, id)));
    const cache = { keys: f32(1, 5, 1, 8), values: f32(1, 5, 1, 8) };
    outside('attention_decode', () => attendCache(f32(1, 1, 8), cache, { position: ints(id) }));
  }
  const row = { token: ints(1), ended: ints(0), history: ints(0, 0).view(1, 2) };
  const advance = (at: number) =>
    run(advanceKernel, { chosen: ints(1), eos: ints(1), ...row, position: ints(at) }, { scalars: { pad: 0 } });
  outside('advance', () => advance(-1));
  const sampling = { options: Tensor.from(backend, 'f32', [4], [1, 0, 1, 0]), words: ints(1, 2).view(1, 1, 2) };
  outside('sample_token', () => sampleToken(f32(1, 4), { ...sampling, position: ints(-1) }));
});

test('the CPU names kernels and types that it does not have', { skip: testedDevice !== 'cpu' }, () => {
  const backend = testedBackend();
  const half = ofType(backend, 'f16', 6);
  const refused = (message: RegExp, f: () => unknown) =>
    scope(() => void assert.throws(f, { name: 'BackendError', message }));
  refused(/^add: float16 runs on a GPU only, expected bfloat16 or float32 on the cpu$/, () => add(half, half));
  const launch = (name: string, type: FloatType) => {
    const kernel = kernels.find((kernel) => kernel.name === name)!;
    return () => backend.launch(kernel, type, [], [], []);
  };
  refused(/^greedy_steps: is for cuda alone, expected a tensor there, not on the cpu$/, launch('greedy_steps', 'f32'));
  refused(/^feed_forward_int8: is not for bf16, expected f32$/, launch('feed_forward_int8', 'bf16'));
});
