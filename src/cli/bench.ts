import { spawnSync } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import type { Measurement } from '../bench/bench.ts';
import { UsageError } from '../util/errors.ts';
import { suggestion } from '../util/suggest.ts';
import { defineCommand, many, optional, path, text, toggle } from './command.ts';
import { modelFolder } from './model_folder.ts';

const subjects: Record<string, (only: readonly string[]) => Promise<Measurement[]>> = {
  gemm: async () => (await import('../bench/gemm.ts')).benchGemm(),
  attention: async () => (await import('../bench/attention.ts')).benchAttention(),
  train: async (only) => (await import('../bench/train_step.ts')).benchTraining(only),
  gpu: async (only) => (await import('../bench/gpu.ts')).benchGpu(only),
  'gpu-kernels': async (only) => (await import('../bench/gpu_kernels.ts')).benchGpuKernels(only),
  cpu: async (only) => (await import('../bench/cpu.ts')).benchCpu(only),
  collator: async () => (await import('../bench/collator.ts')).benchCollator(),
};
const PRECISION = 'precision';
const peers = fileURLToPath(new URL('../../../scripts/bench_torch.py', import.meta.url));

export const bench = defineCommand({
  name: 'bench',
  summary: 'Measure kernels, a training step or the collator, beside PyTorch if it is there.',
  positionals: {
    usage: 'gemm|attention|train|cpu|precision|gpu|gpu-kernels|collator',
    doc: 'what to measure; FAT5_THREADS limits the threads',
  },
  flags: {
    python: optional(path('Python with PyTorch and transformers: measures the same right after and prints the ratio')),
    only: many(text('train, cpu, gpu, gpu-kernels: these cases')),
    peer: optional(path("cpu: JSON lines with another program's case, ms and impl: prints the ratio")),
    model: optional(path('precision: folder of a model; random weights when left out')),
    json: toggle('print JSON lines'),
  },
  async run(flags, [subject, ...more]) {
    const names = [...Object.keys(subjects), PRECISION];
    if (subject === undefined || more.length > 0) throw new UsageError(`bench: expected one of ${names.join(', ')}`);
    if (subject === PRECISION) return printPrecision(flags.model && modelFolder(flags.model), flags.json);
    if (!Object.hasOwn(subjects, subject))
      throw new UsageError(`bench: unknown "${subject}", ${suggestion(subject, names)}`);
    if (subject === 'train' && flags.only.length !== 1) {
      // A process each, so that memory is that of one shape.
      const { trainingCases } = await import('../bench/train_step.ts');
      for (const name of flags.only.length > 0 ? flags.only : trainingCases) {
        const rest = [...(flags.python ? ['--python', flags.python] : []), ...(flags.json ? ['--json'] : [])];
        spawnSync(process.execPath, [process.argv[1]!, 'bench', 'train', '--only', name, ...rest], {
          stdio: 'inherit',
        });
      }
      return;
    }
    const ours = await subjects[subject]!(flags.only);
    if (ours.length === 0)
      throw new UsageError(
        `bench: there is no case "${flags.only.join(' ')}", expected some of those that "bench ${subject}" prints`,
      );
    const theirs = await peersOf(flags, subject);
    for (const measurement of ours) {
      const peer = theirs.get(measurement.case);
      console.log(flags.json ? JSON.stringify({ ...measurement, peer }) : line(measurement, peer));
    }
  },
});

async function printPrecision(folder: string | undefined, json: boolean): Promise<void> {
  const { benchPrecision } = await import('../bench/precision.ts');
  for (const found of await benchPrecision(folder)) {
    const quantiles = Object.entries(found.quantiles).map(([name, value]) => `${name} ${value.toExponential(2)}`);
    const about = `${found.dtype.padEnd(9)} ${quantiles.join('  ')}`;
    console.log(
      json
        ? JSON.stringify(found)
        : `${about}  (${found.elements} elements, root mean square ${found.size.toFixed(3)})`,
    );
  }
}

/** A peer's measurements by case, where one is asked for. */
async function peersOf(
  flags: { peer: string | undefined; python: string | undefined; only: readonly string[] },
  subject: string,
): Promise<Map<string, Measurement>> {
  if (flags.peer !== undefined) return (await import('../bench/cpu.ts')).peerMeasurements(flags.peer);
  return flags.python === undefined ? new Map() : peerOf(flags.python, subject, flags.only);
}

/** PyTorch's measurements by case. @throws UsageError if it cannot run */
function peerOf(python: string, subject: string, only: readonly string[]): Map<string, Measurement> {
  const threads = process.env.FAT5_THREADS ?? '2';
  const { stdout, stderr, status, error } = spawnSync(python, [peers, subject, threads, ...only], { encoding: 'utf8' });
  if (status !== 0)
    throw new UsageError(`bench: ${python} ${peers} failed: ${error?.message ?? stderr.trim().split('\n').at(-1)}`);
  const measurements = stdout
    .trim()
    .split('\n')
    .filter(Boolean)
    .map((json) => JSON.parse(json) as Measurement);
  return new Map(measurements.map((measurement) => [measurement.case, measurement]));
}

function line(ours: Measurement, peer: Measurement | undefined): string {
  const memory = (m: Measurement) => (m.peakMegabytes > 0 ? `, ${m.peakMegabytes.toFixed(0)} MB` : '');
  const figures = (m: Measurement) => `${m.milliseconds.toFixed(2)} ms, ${m.rate.toFixed(1)} ${m.unit}${memory(m)}`;
  const beside = peer ? `  peer ${figures(peer)}: ${(peer.milliseconds / ours.milliseconds).toFixed(2)} x` : '';
  return `${ours.case.padEnd(46)} ${figures(ours)}${beside}`;
}
