/**
 * rope: rotary positions. Pairs of a head's values turn by an angle that grows with the position, so that q . k depends
 * on the distance of the two only; with xPos the product also shrinks or grows with the distance.
 *
 *   angle = turn * t * base^(-2i/R),   zeta_i = (2i + 0.4 R) / (1.4 R),   s = zeta_i^(power * t)      t position, i < R/2
 *   y_a = s (x_a cos(angle) - x_b sin(angle)),   y_b = s (x_a sin(angle) + x_b cos(angle))
 *
 * x, y [B,S,H,D]; the first R values of each head turn, in pairs (a, b) = (i, i + R/2), or (2i, 2i + 1) when interleaved;
 * the others stay. t is positions[s], or offset + s without positions. The gradient is the same kernel with turn -1.
 * Angles are taken in float64 by the CPU and rounded once.
 *
 * Source: Su et al. 2021, arXiv:2104.09864; xPos: Sun et al. 2022, arXiv:2212.10554, whose positions are centred, which
 * changes no product.
 */
import { defineKernel } from '../../backend/kernel.ts';
import { record, run } from '../../tensor/autograd.ts';
import type { Tensor } from '../../tensor/tensor.ts';
import { ShapeError } from '../../util/errors.ts';
import { ropePlan } from './rope.cuda.ts';

const plain = { interleaved: 0, offset: 0, base: 10000, turn: 1, power: 0 };

export const ropeKernel = defineKernel({
  name: 'rope',
  inputs: { x: '[B,S,H,D]', positions: 'i32[S]?' },
  updates: {},
  outputs: { y: '[B,S,H,D]' },
  scalars: { rotated: 'i32', interleaved: 'i32', offset: 'i32', base: 'f32', turn: 'f32', power: 'f32' },
  cases: [
    { sizes: { B: 1, S: 1, H: 1, D: 2 }, scalars: { ...plain, rotated: 2, offset: 3 }, absent: ['positions'] },
    { sizes: { B: 2, S: 9, H: 3, D: 10 }, scalars: { ...plain, rotated: 6 }, absent: ['positions'] },
    { sizes: { B: 2, S: 9, H: 3, D: 10 }, scalars: { ...plain, rotated: 6, interleaved: 1 }, absent: ['positions'] },
    { sizes: { B: 1, S: 70, H: 2, D: 64 }, scalars: { ...plain, rotated: 64, base: 500 } },
    { sizes: { B: 1, S: 40, H: 2, D: 64 }, scalars: { ...plain, rotated: 64, turn: -1, power: 1 / 64 } },
    { sizes: { B: 1, S: 40, H: 2, D: 16 }, scalars: { ...plain, rotated: 16, power: -1 / 64 } },
  ],
  fill: { positions: (random) => Math.floor(random() * 100) },
  reference({ x, positions, y }, { B, S, H, D }, { rotated: R, interleaved, offset, base, turn, power }) {
    y.set(x);
    for (let b = 0; b < B; b++)
      for (let s = 0; s < S; s++)
        for (let h = 0; h < H; h++)
          for (let i = 0; i < R / 2; i++) {
            const t = positions ? positions[s]! : offset + s;
            const angle = turn * t * base ** ((-2 * i) / R);
            const scale = ((2 * i + 0.4 * R) / (1.4 * R)) ** (power * t);
            const head = ((b * S + s) * H + h) * D;
            const [first, second] = interleaved ? [head + 2 * i, head + 2 * i + 1] : [head + i, head + i + R / 2];
            y[first] = scale * (x[first]! * Math.cos(angle) - x[second]! * Math.sin(angle));
            y[second] = scale * (x[first]! * Math.sin(angle) + x[second]! * Math.cos(angle));
          }
  },
  cuda: ropePlan,
});

/** How much of a head turns, how fast, and from where on. */
export interface RopeOptions {
  /** Values of each head that turn; an even number. */
  rotated: number;
  base: number;
  /** Pairs of neighbours instead of halves. */
  interleaved: boolean;
  /** Positions int32 [S], instead of 0, 1, 2, … */
  positions?: Tensor | undefined;
  /** xPos's exponent per position: 1/scale_base for queries, the negative for keys, 0 for none. */
  power?: number;
}

/** x [B,S,H,D] turned by its positions. @throws ShapeError */
export function rope(x: Tensor, options: RopeOptions): Tensor {
  const { positions, rotated, base, interleaved, power = 0 } = options;
  if (!(rotated >= 0 && rotated % 2 === 0 && rotated <= x.shape.at(-1)!))
    throw new ShapeError(`rope: rotated is ${rotated}, expected an even number up to the width of x [${x.shape}]`);
  const scalars = { rotated, interleaved: interleaved ? 1 : 0, offset: 0, base, power };
  const { y } = run(ropeKernel, { x, positions }, { scalars: { ...scalars, turn: 1 } });
  record([y], [x], ([dy]) => [run(ropeKernel, { x: dy!, positions }, { scalars: { ...scalars, turn: -1 } }).y]);
  return y;
}
