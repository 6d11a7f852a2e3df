/** Matrix products at T5's shapes: forward, input gradient, weight gradient; and what the processor could do at best. */
import { openCpu } from '../backend/cpu/cpu.ts';
import { linearBackwardInput, linearBackwardWeight, linearForward } from '../ops/linear/linear.ts';
import { run } from '../tensor/autograd.ts';
import { dispose, scope } from '../tensor/scope.ts';
import { Tensor } from '../tensor/tensor.ts';
import { openLibrary } from '../util/native.ts';
import { fastest, type Measurement, noise } from './bench.ts';

/** Rows, inputs, outputs. */
const shapes = {
  'small qkvo': [2048, 512, 512],
  'small up': [2048, 512, 2048],
  'small down': [2048, 2048, 512],
  'base up': [2048, 768, 3072],
  'small head': [456, 512, 32128],
} as const;
const SECONDS = 1;
const PEAK_ROUNDS = 50;

export async function benchGemm(): Promise<Measurement[]> {
  const backend = openCpu();
  const found: Measurement[] = [peakOf(backend.isa)];
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
      const milliseconds = await fastest(SECONDS, () => void scope(() => void launch()));
      const rate = (2 * N * I * O) / (milliseconds * 1e6);
      found.push({ case: `${name} ${N}x${I}x${O} ${product}`, milliseconds, rate, unit: 'GFLOP/s', peakMegabytes: 0 });
    }
    dispose(x, weight, dy, dx, dweight);
  }
  return found;
}

/** Multiply-adds on registers alone, all threads together: what a product that waits for nothing would reach. */
function peakOf(isa: string): Measurement {
  const peak = openLibrary(`fat5-cpu-${isa}`).bind('double fat5_peak_gflops()');
  let rate = 0;
  const started = performance.now();
  for (let round = 0; round < PEAK_ROUNDS; round++) rate = Math.max(rate, peak());
  const milliseconds = (performance.now() - started) / PEAK_ROUNDS;
  return { case: `multiply-adds in registers, ${isa}`, milliseconds, rate, unit: 'GFLOP/s', peakMegabytes: 0 };
}
