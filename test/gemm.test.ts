/** Matrix products where rounding, range and shape are hard; test/parity.test.ts has the ordinary cases. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { openCpu } from '../src/backend/cpu/cpu.ts';
import { noise } from '../src/bench/bench.ts';
import { linearForward } from '../src/ops/linear/linear.ts';
import { run } from '../src/tensor/autograd.ts';
import { Tensor } from '../src/tensor/tensor.ts';

const cpu = openCpu();
const OUTPUTS = 40;
const COUNTS = [40, 20]; // of rows: a matrix unit takes the factors of few in other places

/** x [rows,K] times the transpose of w [OUTPUTS,K]. */
const product = async (x: Float32Array, w: Float32Array) => {
  const K = w.length / OUTPUTS;
  const of = (values: Float32Array) => Tensor.from(cpu, 'f32', [values.length / K, K], values);
  return (await run(linearForward, { x: of(x), weight: of(w) }, { scalars: { alpha: 1 } }).y.read()) as Float32Array;
};

/** Root mean square of the errors of `y`, each relative to the sum of |x w|, and of sums of floats term by term. */
function errors(x: Float32Array, w: Float32Array, y: Float32Array): { ours: number; chain: number } {
  const K = w.length / OUTPUTS;
  let [ours, chain] = [0, 0];
  for (let n = 0; n < x.length / K; n++)
    for (let o = 0; o < OUTPUTS; o++) {
      let [exact, size, float] = [0, 0, 0];
      for (let k = 0; k < K; k++) {
        const term = x[n * K + k]! * w[o * K + k]!;
        exact += term;
        size += Math.abs(term);
        float = Math.fround(float + term); // one rounding a term, as fused multiply-adds; the baseline has two
      }
      ours += ((y[n * OUTPUTS + o]! - exact) / size) ** 2;
      chain += ((float - exact) / size) ** 2;
    }
  return { ours: Math.sqrt(ours / y.length), chain: Math.sqrt(chain / y.length) };
}

const kinds: Record<string, (v: number, index: number) => number> = {
  'of both signs': (v) => v,
  'of one sign': Math.abs,
  'of sizes from 2^-20 to 2^20': (v, i) => v * 2 ** (((i * 7919) % 41) - 20),
  'very large times very small': (v) => v * 2 ** 120,
};

for (const [kind, shape] of Object.entries(kinds))
  for (const K of [33, 512, 1100])
    test(`${K} terms ${kind} are summed at least as exactly as by a chain of multiply-adds`, async () => {
      const w = noise(OUTPUTS * K + 1)
        .subarray(1)
        .map((v, i) => (kind.startsWith('very') ? v * 2 ** -90 : shape(v, i)));
      for (const rows of COUNTS) {
        const x = noise(rows * K).map(shape);
        const { ours, chain } = errors(x, w, await product(x, w));
        assert.ok(ours <= 1.15 * chain, `${rows} rows: ${ours} against ${chain}`);
        assert.ok(ours < 3e-7, `${rows} rows: ${ours}`);
      }
    });

for (const rows of COUNTS)
  test(`${rows} rows: infinities, NaN and the largest float stay what they are`, async () => {
    const K = 40;
    const largest = 3.4028234663852886e38;
    const cases: [x: number, w: number, want: number][] = [
      [Number.POSITIVE_INFINITY, 1, Number.POSITIVE_INFINITY],
      [Number.POSITIVE_INFINITY, -1.0000001, Number.NEGATIVE_INFINITY],
      [Number.NEGATIVE_INFINITY, 1e-20, Number.NEGATIVE_INFINITY],
      [3e38, Number.POSITIVE_INFINITY, Number.POSITIVE_INFINITY],
      [Number.NEGATIVE_INFINITY, Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY],
      [Number.NEGATIVE_INFINITY, Number.NEGATIVE_INFINITY, Number.POSITIVE_INFINITY],
      [Number.POSITIVE_INFINITY, 0, Number.NaN],
      [Number.NaN, 3, Number.NaN],
      [Number.NaN, 0, Number.NaN],
      [largest, 1, largest],
      [-largest, 0.5, -largest / 2],
      [1, largest, largest],
      [2 ** 127, 1.9921875, 2 ** 127 * 1.9921875],
    ];
    const x = new Float32Array(rows * K);
    const w = new Float32Array(OUTPUTS * K);
    for (const [i, [a, b]] of cases.entries()) {
      x[i * K + i] = a;
      for (let o = 0; o < OUTPUTS; o++) w[o * K + i] = o === i ? b : 1; // every column meets every x
    }
    const y = await product(x, w);
    for (const [i, [a, b, want]] of cases.entries()) {
      const got = y[i * OUTPUTS + i]!;
      assert.ok(Object.is(got, want) || Math.abs(got / want - 1) < 1e-6, `${a} * ${b} is ${got}, expected ${want}`);
      const alone = y[(rows - 1) * OUTPUTS + i]!;
      assert.equal(alone, Number.isFinite(b) ? 0 : Number.NaN, 'a row of zeros');
    }
  });

test('values too small for a matrix unit lose at most 2^-126 times the other factor', async () => {
  const K = 64;
  const rows = 40;
  const x = noise(rows * K).map((v) => v * 2 ** -118);
  const w = noise(OUTPUTS * K, 8);
  const y = await product(x, w);
  for (let n = 0; n < rows; n++)
    for (let o = 0; o < OUTPUTS; o++) {
      let [exact, size] = [0, 0];
      for (let k = 0; k < K; k++) {
        exact += x[n * K + k]! * w[o * K + k]!;
        size += Math.abs(w[o * K + k]!) + 1;
      }
      const error = Math.abs(y[n * OUTPUTS + o]! - exact);
      assert.ok(error <= size * 2 ** -125, `${error} against ${size * 2 ** -125}`);
    }
});

for (const [dtype, K, outputs] of [
  ['f32', 1030, 200],
  ['bf16', 1030, 200],
  ['f32', 20, 4100],
  ['bf16', 20, 4100],
] as const)
  test(`${dtype}, ${K} terms: rows give the bits alone that they give among many`, async () => {
    const many = 1100; // too many to be packed whole
    const x = Tensor.from(cpu, dtype, [many, K], noise(many * K));
    const weight = Tensor.from(cpu, dtype, [outputs, K], noise(outputs * K, 5));
    const of = (rows: number) => {
      const part = new Tensor(cpu, x.memory.slice(0, rows * K), [rows, K]);
      return run(linearForward, { x: part, weight }, { scalars: { alpha: 0.5 } }).y.read();
    };
    const all = await of(many);
    for (const rows of [1, 4, 7, 9, 17, 32, 33, 64, 150, 210, 456])
      assert.deepEqual(await of(rows), all.slice(0, rows * outputs), `${rows} rows`);
  });
