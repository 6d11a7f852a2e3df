/** What is measured on a GPU, and how times are taken there. */
import type { Backend, Memory } from '../backend/backend.ts';
import { openCuda } from '../backend/cuda/open.ts';
import { compileAhead } from '../backend/cuda/rehearsal.ts';
import { type FloatType, type hostArray, toHost } from '../backend/dtype.ts';
import type { AnyKernel } from '../backend/kernel.ts';
import { accumulate } from '../tensor/accumulate.ts';
import { type Measurement, noise } from './bench.ts';
import type { GpuPeers, PeerWork } from './gpu_peers.ts';

/** Timed runs, after those that are not. */
export const STEPS = 10;
export const WARM_UP = 3;
/** Of recorded work, as for peers (scripts/bench_gpu_peers.py). */
const WARM_UP_MILLISECONDS = 20;
const TIMED_MILLISECONDS = 60;
const MOST_RUNS = 200;

export interface GpuCase {
  name: string;
  measure(backend: Backend, name: string): Promise<Measurement>;
  /** The same for another program, where one is known. */
  peer?: PeerWork;
}

/** The cases whose names contain one of `only`, all without. */
export const chosen = <C extends { name: string }>(cases: readonly C[], only: readonly string[]): C[] =>
  cases.filter(({ name }) => only.length === 0 || only.some((part) => name.includes(part)));

/**
 * Measures cases one by one, each with its peers right after it. Their kernels are compiled before, all at once.
 * @throws BackendError without a GPU
 */
export async function* measureCases(cases: readonly GpuCase[], peers?: GpuPeers): AsyncGenerator<Measurement> {
  if (cases.length === 0) return;
  const backend = openCuda();
  await compileAhead(
    backend,
    cases.map(
      ({ name, measure }) =>
        (rehearsed) =>
          measure(rehearsed, name),
    ),
  );
  for (const { name, measure, peer } of cases) {
    if (peer) await peers?.prepare(peer);
    backend.resetPeak();
    const found = await measure(backend, name);
    backend.trim();
    yield peers && peer ? { ...found, peers: await peers.measure(peer, found) } : found;
  }
}

/** Milliseconds of work that was recorded `launches` times in a row, on the device, the median of many runs as of its peers. */
export function replayed(backend: Backend, work: () => void, launches = 1): number {
  work();
  const recording = backend.capture!(() => {
    for (let i = 0; i < launches; i++) work();
  });
  const run = () => recording.run();
  run();
  const [once] = backend.durations!(run, 1);
  const fitting = (milliseconds: number) => Math.min(MOST_RUNS, Math.ceil(milliseconds / Math.max(once!, 1e-3)));
  backend.durations!(run, fitting(WARM_UP_MILLISECONDS));
  const times = backend.durations!(run, fitting(TIMED_MILLISECONDS)).sort((a, b) => a - b);
  recording.dispose();
  return times[times.length >> 1]! / launches;
}

export const measured = (
  backend: Backend,
  name: string,
  milliseconds: number,
  speed: Pick<Measurement, 'rate' | 'unit'>,
): Measurement => ({ case: name, milliseconds, ...speed, peakMegabytes: backend.usage.peakBytes / 1e6 });

/** Elements of noise before it repeats. */
const PERIOD = 1 << 22;
const patterns = new Map<string, ReturnType<typeof hostArray>>();

/** Noise in [-scale, scale) without a visible period, made on the host once and repeated on the device. */
export function fillWithNoise(backend: Backend, memory: Memory, scale = 1): void {
  const length = Math.min(memory.length, PERIOD);
  const key = `${memory.dtype} ${scale}`;
  let pattern = patterns.get(key);
  if (!pattern) patterns.set(key, (pattern = toHost(memory.dtype, noise(PERIOD, scale))));
  backend.write(memory.slice(0, length), pattern.subarray(0, length));
  for (let start = length; start < memory.length; start += length) {
    const count = Math.min(length, memory.length - start);
    const part = [memory.slice(0, count), memory.slice(start, count)];
    backend.launch(accumulate as unknown as AnyKernel, memory.dtype as FloatType, part, [count], [0]);
  }
}
