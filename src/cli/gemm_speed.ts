/** What this machine reaches in a matrix product of T5's shapes. */
import { openCpu } from '../backend/cpu/cpu.ts';
import { linear } from '../ops/linear/linear.ts';
import { scope } from '../tensor/scope.ts';
import { Tensor } from '../tensor/tensor.ts';

const [rows, inputs, outputs] = [1024, 512, 2048];
const SECONDS = 0.5;

/** 10^9 operations a second of a float32 product with all threads, the best of several. */
export function gemmSpeed(): number {
  const backend = openCpu();
  const values = (n: number) => Float32Array.from({ length: n }, (_, i) => Math.sin(i));
  return scopedNumber(() => {
    const x = Tensor.from(backend, 'f32', [rows, inputs], values(rows * inputs));
    const weight = Tensor.from(backend, 'f32', [outputs, inputs], values(outputs * inputs));
    let best = Number.POSITIVE_INFINITY;
    const end = performance.now() + 1000 * SECONDS;
    while (performance.now() < end) {
      const started = performance.now();
      scope(() => void linear(x, weight));
      best = Math.min(best, performance.now() - started);
    }
    return (2 * rows * inputs * outputs) / (best * 1e6);
  });
}

/** A scope whose result is a number. */
function scopedNumber(f: () => number): number {
  let result = 0;
  scope(() => {
    result = f();
    return undefined;
  });
  return result;
}
