/**
 * linear_float8 and linear_float8_add: products of float8 rows (quantise_float8.ts) with a weight in float8, to which the second adds.
 *
 *   y[n,o] = alpha * xScales[n] * scales[o] * sum_i x[n,i] * weight[o,i]  (+ beta * y[n,o])
 *
 * x [N,I], weight [O,I], xScales [N], scales [O], y [N,O] of type T, or float32 where it is added to. Inference only.
 */
import type { FloatType } from '../../backend/dtype.ts';
import { defineKernel } from '../../backend/kernel.ts';
import { run } from '../../tensor/autograd.ts';
import type { Tensor } from '../../tensor/tensor.ts';
import { ShapeError } from '../../util/errors.ts';
import {
  FLOAT8_ARCH,
  FLOAT8_BESIDE,
  FLOAT8_MULTIPLE,
  linearFloat8AddPlan,
  linearFloat8Plan,
} from './linear_float8.cuda.ts';
import { toFloat8Rows } from './quantise_float8.ts';

const requires = {
  [`I and O multiples of ${FLOAT8_MULTIPLE}`]: ({ I, O }: { I: number; O: number }) =>
    I % FLOAT8_MULTIPLE === 0 && O % FLOAT8_MULTIPLE === 0,
};
const inputs = { x: 'f8[N,I]', xScales: 'f32[N]', weight: 'f8[O,I]', scales: 'f32[O]' } as const;
const cases = [
  { sizes: { N: 1, I: 16, O: 16 }, scalars: { alpha: 1, beta: 1 } },
  { sizes: { N: 5, I: 48, O: 32 }, scalars: { alpha: 0.5, beta: 0 } },
  { sizes: { N: 67, I: 112, O: 80 }, scalars: { alpha: 1, beta: 0.5 } },
  { sizes: { N: 41, I: 800, O: 96 }, scalars: { alpha: 1, beta: 1 } },
  { sizes: { N: 128, I: 1024, O: 256 }, scalars: { alpha: 1, beta: 1 } },
];
/** So that sums of whole rows are of the order of 1. */
const scaleOf = (random: () => number) => (1 + random()) / 1024;
const wide = (random: () => number) => 448 * (random() * 2 - 1) ** 3;
const fill = { x: wide, weight: wide, xScales: scaleOf, scales: scaleOf };
/** 14 bits of each sum are kept on the way. */
const tolerance = 1e-2;

type Arrays = Record<'x' | 'xScales' | 'weight' | 'scales' | 'y', Float64Array>;

function multiply(
  { x, xScales, weight, scales, y }: Arrays,
  { N, I, O }: Record<'N' | 'I' | 'O', number>,
  { alpha, beta }: Record<'alpha' | 'beta', number>,
): void {
  for (let n = 0; n < N; n++)
    for (let o = 0; o < O; o++) {
      let sum = 0;
      for (let i = 0; i < I; i++) sum += x[n * I + i]! * weight[o * I + i]!;
      y[n * O + o] = alpha * xScales[n]! * scales[o]! * sum + (beta === 0 ? 0 : beta * y[n * O + o]!);
    }
}

export const linearFloat8Kernel = defineKernel({
  name: 'linear_float8',
  inputs,
  updates: {},
  outputs: { y: '[N,O]' },
  scalars: { alpha: 'f32' },
  ...{ requires, fill, tolerance },
  cases: cases.map(({ sizes, scalars: { alpha } }) => ({ sizes, scalars: { alpha } })),
  reference: (arrays, sizes, { alpha }) => multiply(arrays, sizes, { alpha, beta: 0 }),
  cuda: linearFloat8Plan,
  arch: FLOAT8_ARCH,
  types: FLOAT8_BESIDE,
});

export const linearFloat8AddKernel = defineKernel({
  name: 'linear_float8_add',
  inputs,
  updates: { y: 'f32[N,O]' },
  outputs: {},
  scalars: { alpha: 'f32', beta: 'f32' },
  ...{ requires, fill, tolerance, cases },
  reference: multiply,
  cuda: linearFloat8AddPlan,
  arch: FLOAT8_ARCH,
  types: FLOAT8_BESIDE,
});

/**
 * Some float8 weights [O_j,I], or groups of them, on one x [...,I], quantised here unless it is in float8 already, times alpha: [...,O_j] of a type each.
 * @throws ShapeError
 */
export function linearFloat8(
  x: Tensor,
  weights: readonly Tensor[],
  { alpha = 1, type }: { alpha?: number; type: FloatType },
): Tensor[] {
  const leading = x.shape.slice(0, -1);
  const rows = rowsOf(x);
  return weights.map((weight) => {
    const { y } = run(linearFloat8Kernel, factors(rows, weight), { scalars: { alpha }, type });
    return y.view(...leading, y.shape[1]!);
  });
}

/** Adds x [...,I] times the transpose of a float8 weight [O,I] to `stream`, float32 [...,O]. @throws ShapeError */
export function linearFloat8Add(x: Tensor, weight: Tensor, stream: Tensor): void {
  const O = stream.shape.at(-1)!;
  const y = stream.view(stream.length / O, O);
  run(linearFloat8AddKernel, { ...factors(rowsOf(x), weight), y }, { scalars: { alpha: 1, beta: 1 } });
}

function rowsOf(x: Tensor): Tensor {
  if (x.dtype !== 'f8') return toFloat8Rows(x);
  const rows = x.view(x.length / x.shape.at(-1)!, x.shape.at(-1)!);
  rows.scales = x.scales;
  return rows;
}

function factors(x: Tensor, weight: Tensor): Record<'x' | 'xScales' | 'weight' | 'scales', Tensor> {
  if (!x.scales || !weight.scales)
    throw new ShapeError(`linear_float8: x [${x.shape}] or weight [${weight.shape}] of ${weight.dtype} has no scales`);
  const I = weight.shape.at(-1)!;
  const [rows, scales] = [weight.view(weight.length / I, I), weight.scales.view(weight.scales.length)];
  return { x, xScales: x.scales, weight: rows, scales };
}
