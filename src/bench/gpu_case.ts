/** What is measured on a GPU, and how times are taken there. */
import type { Backend } from '../backend/backend.ts';
import type { Tensor } from '../tensor/tensor.ts';
import type { Measurement } from './bench.ts';

/** Timed runs, after those that are not. */
export const STEPS = 10;
export const WARM_UP = 3;

export type Case = { name: string; measure: (backend: Backend, name: string) => Promise<Measurement> };

/** Milliseconds of recorded work, from many runs between two reads of a tensor. */
export async function replayed(backend: Backend, probe: Tensor, work: () => void): Promise<number> {
  work();
  const recording = backend.capture!(work);
  for (let i = 0; i < WARM_UP; i++) recording.run();
  await probe.read();
  const started = performance.now();
  for (let i = 0; i < 2 * STEPS; i++) recording.run();
  await probe.read();
  const milliseconds = (performance.now() - started) / (2 * STEPS);
  recording.dispose();
  return milliseconds;
}

export const measured = (
  backend: Backend,
  name: string,
  milliseconds: number,
  speed: Pick<Measurement, 'rate' | 'unit'>,
): Measurement => ({ case: name, milliseconds, ...speed, peakMegabytes: backend.usage.peakBytes / 1e6 });
