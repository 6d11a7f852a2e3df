/**
 * quantise_rows: a weight in int8, one scale per row.
 *
 *   m_o = max_i |weight[o,i]|     scales[o] = m_o / 127     values[o,i] = round(weight[o,i] * f32(127 / m_o))
 *
 * weight, values [O,I], the latter packed (packed.ts), scales [O]. Rounding is to the nearest, ties to even. Rows without a number
 * above 1e-30 become zeros; of rows with an infinity or a NaN the scale is NaN.
 */
import { defineKernel } from '../../backend/kernel.ts';
import { run } from '../../tensor/autograd.ts';
import type { Tensor } from '../../tensor/tensor.ts';
import { ShapeError } from '../../util/errors.ts';
import { quantised } from './linear_int8.ts';
import { packedPlace } from './packed.ts';

export const quantiseRowsKernel = defineKernel({
  name: 'quantise_rows',
  inputs: { weight: '[O,I]' },
  updates: { values: 'i8[O,I]', scales: 'f32[O]' },
  outputs: {},
  cases: [
    { sizes: { O: 1, I: 1 } },
    { sizes: { O: 7, I: 61 } },
    { sizes: { O: 50, I: 515 } },
    { sizes: { O: 300, I: 512 } },
  ],
  fill: {
    weight: (random, { I }, index) => (Math.floor(index / I) % 5 === 3 ? 0 : (random() * 2 - 1) * 10 ** (index % 3)), // and rows of zeros
    ...{ values: () => 5, scales: () => 5 },
  },
  reference({ weight, values, scales }, { O, I }) {
    for (let o = 0; o < O; o++) {
      const { q, step } = quantised(weight.subarray(o * I, (o + 1) * I));
      for (let i = 0; i < I; i++) values[packedPlace(o, i, O, I)] = q[i]!;
      scales[o] = step;
    }
  },
});

/** Fills a matrix in int8 [O,I] and its scales with a float matrix [O,I]. @throws ShapeError */
export function quantiseRows(weight: Tensor, values: Tensor): void {
  if (!values.scales)
    throw new ShapeError(`quantise_rows: a matrix [${values.shape}] of ${values.dtype} has no scales`);
  run(quantiseRowsKernel, { weight, values, scales: values.scales });
}
