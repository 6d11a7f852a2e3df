/** Matrix products at T5's shapes: forward, input gradient, weight gradient; and what the processor could do at best. */
import { openCpu } from '../backend/cpu/cpu.ts';
import { linearBackwardInput, linearBackwardWeight, linearForward } from '../ops/linear/linear.ts';
import { run } from '../tensor/autograd.ts';
import { dispose, scope } from '../tensor/scope.ts';
import { Tensor } from '../tensor/tensor.ts';
import { openLibrary } from '../util/native.ts';
import { type Measurement, noise } from './bench.ts';

/** Rows, inputs, outputs. */
const shapes = {
  'small qkvo': [2048, 512, 512],
  'small up': [2048, 512, 2048],
  'small down': [2048, 2048, 512],
  'base up': [2048, 768, 3072],
  'small head': [456, 512, 32128],
} as const;
const ROUNDS = 40;

export async function benchGemm(): Promise<Measurement[]> {
  const backend = openCpu();
  const peak = openLibrary(`fat5-cpu-${backend.isa}`).bind('double fat5_peak_gflops()');
  const found: Measurement[] = [];
  for (const [name, [N, I, O]] of Object.entries(shapes)) {
    const make = (rows: number, columns: number) => Tensor.from(backend, 'f32', [rows, columns], noise(rows * columns));
    const [x, weight, dy, dx, dweight] = [make(N, I), make(O, I), make(N, O), make(N, I), make(O, I)];
    const scalars = { alpha: 1, beta: 0 };
    const products = {
      forward: () => run(linearForward, { x, weight }, { scalars: { alpha: 1 } }),
      'input gradient': () => run(linearBackwardInput, { dy, weight, dx }, { scalars }),
      'weight gradient': () => run(linearBackwardWeight, { dy, x, dweight }, { scalars }),
    };
    for (const [product, launch] of Object.entries(products)) {
      const work = (2 * N * I * O) / 1e6;
      const [milliseconds, most] = alternately(() => scope(() => void launch()), peak);
      const registers = { peer: 'multiply-adds in registers', milliseconds: work / most, rate: most, peakMegabytes: 0 };
      const measured = { milliseconds, rate: work / milliseconds, unit: 'GFLOP/s', peakMegabytes: 0 };
      found.push({ case: `${name} ${N}x${I}x${O} ${product}, ${backend.isa}`, ...measured, peers: [registers] });
    }
    dispose(x, weight, dy, dx, dweight);
  }
  return found;
}

/** The least milliseconds of a product, and the most GFLOP/s that all threads reach without memory between its runs. */
function alternately(product: () => void, peak: () => number): [number, number] {
  let [least, most] = [Number.POSITIVE_INFINITY, 0];
  product();
  for (let round = 0; round < ROUNDS; round++) {
    const started = performance.now();
    product();
    least = Math.min(least, performance.now() - started);
    most = Math.max(most, peak());
  }
  return [least, most];
}
