/**
 * adafactor: one update of Adafactor with factored second moments, in transformers' form with scale_parameter, without
 * relative_step and first moment. For a matrix with gradient G, after clipping by the global norm:
 *
 *   row[r] = decay * row[r] + (1 - decay) * mean_c(G^2 + eps1),   column[c] likewise with mean_r
 *   U      = G * sqrt(mean(row) / row[r]) / sqrt(column[c])
 *   value -= rate * scale * U / max(1, RMS(U) / threshold) + rate * scale * weight decay * value
 *   scale  = max(eps2, RMS(value))
 *
 * A vector has one moment per element: U = G / sqrt(moment). Two launches: moments and their factors, then values.
 * Tables as table.ts; `factors` are the factors of U, laid out like the moments [M]; lengths, decay, norms [P] as in
 * adamw, and so are compensation [S], master [S] and rng; columnSums [W] is scratch.
 *
 * Source: Shazeer & Stern 2018, arXiv:1804.04235, algorithms 4 and 5.
 */
import { defineKernel } from '../../backend/kernel.ts';
import { layOut } from '../../tensor/parameters.ts';
import { adafactorMomentsPlan, adafactorPlan } from './adafactor.cuda.ts';
import { adafactorTable, PLACE_COLUMNS } from './table.ts';

/** The entries of `hyper`, in order. */
export const adafactorHyper = ['decay', 'oneMinusDecay', 'eps1', 'eps2', 'threshold', 'rate', 'maxNorm'] as const;

const testHyper = [0.75, 0.25, 1e-3, 0.1, 0.5, 0.25, 0.5];

const testShapes = [[[1]], [[5, 7], [300], [64, 1], [1, 9]], [[300, 130], [40_000, 2], [3, 33_000], [70_000]]].map(
  (shapes) => {
    const { places, length } = layOut(shapes.map((shape) => ({ name: 'test', shape })));
    return { places, N: length, table: adafactorTable(places) };
  },
);
const sizesOf = ({ N, table, places }: (typeof testShapes)[number]) => ({
  N,
  P: places.length,
  C: table.chunks.length / 4,
  M: table.moments,
});
const tableOf = ({ N }: { N: number }) => testShapes.find((t) => t.N === N)!.table;
const lengthOf = ({ N }: { N: number }, p: number) => testShapes.find((t) => t.N === N)!.places[p]!.length;

const fill = {
  places: (_: unknown, sizes: { N: number }, i: number) => tableOf(sizes).places[i]!,
  chunks: (_: unknown, sizes: { N: number }, i: number) => tableOf(sizes).chunks[i]!,
  norm: (_: unknown, { P }: { P: number }) => (P === 1 ? 0.25 : 2), // below and above maxNorm
  hyper: (_: unknown, __: unknown, i: number) => testHyper[i]!,
};

/** Rows of the places table by name. */
const placeOf = (places: Float64Array, p: number) => {
  const [start, state, rows, columns, row, column] = places.subarray(p * PLACE_COLUMNS) as unknown as number[];
  return { start: start! * 64, state: state! * 64, rows: rows!, columns: columns!, row: row!, column: column! };
};

const clipOf = (norm: Float64Array, hyper: Float64Array) => Math.min(1, hyper[6]! / (norm[0]! + 1e-6));

export const adafactorMoments = defineKernel({
  name: 'adafactor_moments',
  inputs: { gradients: 'f32[N]', places: 'i32[P,7]', chunks: 'i32[C,4]', norm: 'f32[1]', hyper: 'f32[7]' },
  updates: { moments: 'f32[M]' },
  outputs: { factors: 'f32[M]', columnSums: 'f32[W]' },
  cases: testShapes.map((t) => ({ sizes: { ...sizesOf(t), W: t.table.columnSums } })),
  fill: { ...fill, moments: (random) => 0.1 + random() },
  reference({ gradients, places, chunks, norm, hyper, moments, factors, columnSums }, { P, C }) {
    if (!Number.isFinite(norm[0]!)) return;
    const [decay, oneMinusDecay, eps1] = hyper as unknown as [number, number, number];
    const clip = clipOf(norm, hyper);
    columnSums.fill(0);
    const square = (i: number) => (clip * gradients[i]!) ** 2 + eps1;
    for (let c = 0; c < C; c++) {
      const [p, first, count, at] = chunks.subarray(4 * c, 4 * c + 4) as unknown as [number, number, number, number];
      const { start, columns, column } = placeOf(places, p);
      if (column < 0) continue;
      for (let r = first; r < first + count; r++)
        for (let k = 0; k < columns; k++) columnSums[at + k]! += square(start + r * columns + k);
    }
    for (let p = 0; p < P; p++) {
      const { start, rows, columns, row, column } = placeOf(places, p);
      const blend = (at: number, mean: number) => {
        moments[at] = decay * moments[at]! + oneMinusDecay * mean;
        return moments[at]!;
      };
      let total = 0;
      for (let r = 0; r < rows; r++) {
        let sum = 0;
        for (let k = 0; k < columns; k++) sum += square(start + r * columns + k);
        total += blend(row + r, sum / columns);
      }
      for (let r = 0; r < rows; r++) factors[row + r] = Math.sqrt((column < 0 ? 1 : total / rows) / moments[row + r]!);
      if (column < 0) continue;
      for (let k = 0; k < columns; k++) {
        let sum = 0;
        for (let r = 0; r < rows; r++) sum += square(start + r * columns + k);
        factors[column + k] = 1 / Math.sqrt(blend(column + k, sum / rows));
      }
    }
  },
  cuda: adafactorMomentsPlan,
});

export const adafactor = defineKernel({
  name: 'adafactor',
  inputs: {
    gradients: 'f32[N]',
    places: 'i32[P,7]',
    chunks: 'i32[C,4]',
    factors: 'f32[M]',
    lengths: 'i32[P]',
    decay: 'f32[P]',
    norms: 'f32[P]',
    norm: 'f32[1]',
    hyper: 'f32[7]',
    rng: 'i32[2]?',
  },
  updates: { values: '[N]', compensation: '[S]?', master: 'f32[S]?' },
  outputs: { partial: 'f32[C]', scale: 'f32[P]' },
  cases: [
    { sizes: { ...sizesOf(testShapes[0]!), S: 0 }, absent: ['compensation', 'rng', 'master'] },
    { sizes: { ...sizesOf(testShapes[1]!), S: 0 }, absent: ['compensation', 'master'] },
    { sizes: { ...sizesOf(testShapes[1]!), S: testShapes[1]!.table.state }, absent: ['rng', 'master'] },
    { sizes: { ...sizesOf(testShapes[1]!), S: testShapes[1]!.table.state }, absent: ['compensation', 'rng'] },
    { sizes: { ...sizesOf(testShapes[2]!), S: testShapes[2]!.table.state }, absent: ['rng', 'master'] },
  ],
  fill: {
    ...fill,
    lengths: (_, sizes, p) => lengthOf(sizes, p),
    norms: (random, _, p) => (p % 2) * 10 * random(), // every other parameter has the smallest scale
    compensation: (random) => 0.01 * random(),
  },
  reference(arrays, { C, P }) {
    const { gradients, places, chunks, factors, lengths, decay, norms, norm, hyper } = arrays;
    const { values, compensation, master, partial, scale } = arrays;
    if (!Number.isFinite(norm[0]!)) return;
    const [, , , eps2, threshold, rate] = hyper as unknown as [number, number, number, number, number, number];
    const clip = clipOf(norm, hyper);
    const update = (p: number, r: number, k: number) => {
      const { start, columns, row, column } = placeOf(places, p);
      const factor = factors[row + r]! * (column < 0 ? 1 : factors[column + k]!);
      return clip * gradients[start + r * columns + k]! * factor;
    };
    const sums = new Float64Array(P);
    for (let c = 0; c < C; c++) {
      const [p, first, count] = chunks.subarray(4 * c, 4 * c + 3) as unknown as [number, number, number];
      const { columns } = placeOf(places, p);
      partial[c] = 0;
      for (let r = first; r < first + count; r++) for (let k = 0; k < columns; k++) partial[c]! += update(p, r, k) ** 2;
      sums[p]! += partial[c]!;
    }
    for (let p = 0; p < P; p++) {
      const { start, state, rows, columns } = placeOf(places, p);
      const parameterRate = rate * Math.max(eps2, norms[p]! / Math.sqrt(lengths[p]!));
      scale[p] = parameterRate / Math.max(1, Math.sqrt(sums[p]! / lengths[p]!) / threshold);
      for (let i = 0; i < rows * columns; i++) {
        const old = master?.[state + i] ?? values[start + i]!;
        const kept = compensation?.[state + i] ?? 0;
        const lost = parameterRate * decay[p]! * old;
        const change = kept - scale[p]! * update(p, Math.floor(i / columns), i % columns) - lost;
        values[start + i] = old + change;
        if (compensation) compensation[state + i] = change - (values[start + i]! - old);
        if (master) master[state + i] = values[start + i]!;
      }
    }
  },
  cuda: adafactorPlan,
});
