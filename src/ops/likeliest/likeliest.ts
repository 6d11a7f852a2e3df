/**
 * likeliest: the first largest output of a wide float32 matrix, without reading most of it. What decides is float32; a
 * copy in int8, a quarter of the bytes, says which outputs can be the largest.
 *
 *   ids[n] = first v with the largest alpha * sum_i x[n,i] * weight[v,i],  alpha > 0
 *   coarse_copy:  m_v = max_i |weight[v,i]|   steps[v] = m_v / 127   values[v,i] = round(weight[v,i] / steps[v])
 *                 errors[v] >= |weight[v] - steps[v] values[v]| + r |weight[v]|,  r for the rounding of float32 sums of I terms
 *
 * x [N,I], weight and values [V,I], steps and errors [V], ids [N]. By Cauchy and Schwarz output v is within errors[v] |x| of
 * steps[v] sum_i x[i] values[v,i], so only outputs whose upper bound reaches the largest lower bound are computed: the
 * same ids as `argmax` of linear_rows, whatever the numbers. Inference only, on the CPU: a GPU reads fast enough.
 */
import { defineKernel } from '../../backend/kernel.ts';
import { run } from '../../tensor/autograd.ts';
import { zeros } from '../../tensor/parameters.ts';
import type { Tensor } from '../../tensor/tensor.ts';
import { roundToEven } from '../../util/round.ts';

/** A bound that every output is within, for values that know nothing of the weight. */
const UNKNOWN = 1e6;
/** Rows of smaller numbers count as zeros. */
const LEAST = 1e-30;
const byte = (random: () => number) => Math.floor(random() * 255) - 127;

export const coarseCopy = defineKernel({
  name: 'coarse_copy',
  inputs: { weight: 'f32[V,I]' },
  updates: { values: 'i8[V,I]', steps: 'f32[V]', errors: 'f32[V]' },
  outputs: {},
  cases: [{ sizes: { V: 1, I: 1 } }, { sizes: { V: 7, I: 61 } }, { sizes: { V: 300, I: 512 } }],
  fill: {
    weight: (random, { I }, index) => (Math.floor(index / I) % 5 === 3 ? 0 : (random() * 2 - 1) * 10 ** (index % 3)), // and rows of zeros
    ...{ values: () => 5, steps: () => 5, errors: () => 5 },
  },
  reference({ weight, values, steps, errors }, { V, I }) {
    for (let v = 0; v < V; v++) {
      const row = weight.subarray(v * I, (v + 1) * I);
      const most = row.reduce((m, w) => Math.max(m, Math.abs(w)), 0);
      const step = Math.fround(most / 127);
      steps[v] = step;
      let [rest, size] = [0, 0];
      for (let i = 0; i < I; i++) {
        const q = most <= LEAST ? 0 : roundToEven(Math.fround(row[i]! * Math.fround(127 / most)));
        values[v * I + i] = q;
        rest += (row[i]! - step * q) ** 2;
        size += row[i]! ** 2;
      }
      errors[v] = 1.001 * Math.sqrt(rest) + (I + 64) * 2 ** -23 * Math.sqrt(size);
    }
  },
});

export const likeliestKernel = defineKernel({
  name: 'likeliest',
  inputs: { x: 'f32[N,I]', weight: 'f32[V,I]', values: 'i8[V,I]', steps: 'f32[V]', errors: 'f32[V]' },
  outputs: { ids: 'i32[N]' },
  scalars: { alpha: 'f32' },
  cases: [
    { sizes: { N: 1, I: 1, V: 1 }, scalars: { alpha: 1 } },
    { sizes: { N: 3, I: 61, V: 45 }, scalars: { alpha: 0.5 } },
    { sizes: { N: 7, I: 64, V: 2051 }, scalars: { alpha: 1 } },
  ],
  fill: {
    x: (random) => Math.round(random() * 16 - 8) / 8, // many equal outputs
    weight: (random) => Math.round(random() * 4 - 2) / 2,
    ...{ values: byte, steps: () => 0.01, errors: () => UNKNOWN },
  },
  reference({ x, weight, ids }, { N, I, V }, { alpha }) {
    for (let n = 0; n < N; n++) {
      let most = Number.NEGATIVE_INFINITY;
      for (let v = 0; v < V; v++) {
        let sum = 0;
        for (let i = 0; i < I; i++) sum += x[n * I + i]! * weight[v * I + i]!;
        if (alpha * sum > most) [most, ids[n]] = [alpha * sum, v];
      }
    }
  },
});

/** A matrix once more in int8, with the bounds of what that leaves out. */
export class Coarse {
  private readonly values: Tensor;
  private readonly steps: Tensor;
  private readonly errors: Tensor;

  /** Of weight [V,I], float32. */
  constructor({ backend, shape, length }: Tensor) {
    this.values = zeros(backend, 'i8', length).view(...shape);
    this.steps = zeros(backend, 'f32', shape[0]!);
    this.errors = zeros(backend, 'f32', shape[0]!);
  }

  /** Takes a matrix's values. */
  fill(weight: Tensor): void {
    const { values, steps, errors } = this;
    run(coarseCopy, { weight, values, steps, errors });
  }

  /** Where the first largest output of each row x [...,I] is: int32 [...]. `weight` is what this was filled with. @throws ShapeError */
  likeliest(x: Tensor, weight: Tensor, alpha: number): Tensor {
    const { values, steps, errors } = this;
    const I = x.shape.at(-1)!;
    const { ids } = run(
      likeliestKernel,
      { x: x.view(x.length / I, I), weight, values, steps, errors },
      { scalars: { alpha } },
    );
    return ids.view(...x.shape.slice(0, -1));
  }

  dispose(): void {
    for (const tensor of [this.values, this.steps, this.errors]) tensor.backend.free(tensor.memory.base);
  }
}
