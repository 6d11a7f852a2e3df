/**
 * quantise_float8: rows in float8 (e4m3), each with a scale of its own.
 *
 *   m_n = max_i |x[n,i]|     scales[n] = m_n / 448     values[n,i] = float8(x[n,i] * f32(448 / m_n))
 *
 * x, values [N,I], scales [N]. Rounding is to the nearest, ties to even. Rows without a number above 1e-30 become zeros; of
 * rows with an infinity or a NaN the scale is NaN, and so is every product with them.
 */
import { defineKernel } from '../../backend/kernel.ts';
import { run } from '../../tensor/autograd.ts';
import { Tensor } from '../../tensor/tensor.ts';
import { ShapeError } from '../../util/errors.ts';
import { FLOAT8_LARGEST, roundToFloat8 } from '../../util/float8.ts';
import { FLOAT8_ARCH, FLOAT8_BESIDE, FLOAT8_MULTIPLE, quantiseFloat8Plan } from './linear_float8.cuda.ts';

/** Rows of smaller numbers count as zeros. */
const LEAST = 1e-30;

/** A row in float8, and its scale. */
export function inFloat8(row: Float64Array): { values: Float64Array; scale: number } {
  const most = row.reduce((m, value) => Math.max(m, Math.abs(value)), 0); // NaN stays
  if (!(most >= LEAST) || !Number.isFinite(most))
    return { values: new Float64Array(row.length), scale: most < LEAST ? 0 : Number.NaN };
  const inverse = Math.fround(FLOAT8_LARGEST / most);
  return { values: row.map((value) => roundToFloat8(Math.fround(value * inverse))), scale: most / FLOAT8_LARGEST };
}

/** Of several sizes, and rows of zeros. */
const unequalRows = (random: () => number, { I }: { I: number }, index: number): number =>
  Math.floor(index / I) % 5 === 3 ? 0 : (random() * 2 - 1) * 10 ** (index % 3);

export const quantiseFloat8Kernel = defineKernel({
  name: 'quantise_float8',
  inputs: { x: '[N,I]' },
  updates: { values: 'f8[N,I]', scales: 'f32[N]' },
  outputs: {},
  requires: { [`I a multiple of ${FLOAT8_MULTIPLE}`]: ({ I }) => I % FLOAT8_MULTIPLE === 0 },
  cases: [
    { sizes: { N: 1, I: 16 } },
    { sizes: { N: 7, I: 64 } },
    { sizes: { N: 50, I: 528 } },
    { sizes: { N: 5, I: 4096 } },
    { sizes: { N: 9, I: 10240 } },
  ],
  fill: { x: unequalRows, values: () => 5, scales: () => 5 },
  reference({ x, values, scales }, { N, I }) {
    for (let n = 0; n < N; n++) {
      const row = inFloat8(x.subarray(n * I, (n + 1) * I));
      values.set(row.values, n * I);
      scales[n] = row.scale;
    }
  },
  cuda: quantiseFloat8Plan,
  arch: FLOAT8_ARCH,
  types: FLOAT8_BESIDE,
});

/** Fills a matrix in float8 [N,I] and its scales with a float matrix [N,I]. @throws ShapeError */
export function quantiseFloat8(x: Tensor, values: Tensor): void {
  if (!values.scales)
    throw new ShapeError(`quantise_float8: a matrix [${values.shape}] of ${values.dtype} has no scales`);
  run(quantiseFloat8Kernel, { x, values, scales: values.scales });
}

/** x [...,I] as rows [N,I] of float8 with their scales. @throws ShapeError */
export function toFloat8Rows(x: Tensor): Tensor {
  const I = x.shape.at(-1)!;
  const values = Tensor.empty(x.backend, 'f8', [x.length / I, I]);
  values.scales = Tensor.empty(x.backend, 'f32', [x.length / I]);
  quantiseFloat8(x.view(x.length / I, I), values);
  return values;
}
