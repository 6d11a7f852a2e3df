import { spawnSync } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import type { Measurement } from '../bench/bench.ts';
import { UsageError } from '../util/errors.ts';
import { suggestion } from '../util/suggest.ts';
import { defineCommand, many, optional, path, text, toggle } from './command.ts';

const subjects: Record<string, (only: readonly string[]) => Promise<Measurement[]>> = {
  gemm: async () => (await import('../bench/gemm.ts')).benchGemm(),
  attention: async () => (await import('../bench/attention.ts')).benchAttention(),
  train: async (only) => (await import('../bench/train_step.ts')).benchTraining(only),
  gpu: async (only) => (await import('../bench/gpu.ts')).benchGpu(only),
  'gpu-kernels': async (only) => (await import('../bench/gpu_kernels.ts')).benchGpuKernels(only),
  collator: async () => (await import('../bench/collator.ts')).benchCollator(),
};
const peers = fileURLToPath(new URL('../../../scripts/bench_torch.py', import.meta.url));

export const bench = defineCommand({
  name: 'bench',
  summary: 'Measure kernels, a training step or the collator, beside PyTorch if it is there.',
  positionals: {
    usage: 'gemm|attention|train|gpu|gpu-kernels|collator',
    doc: 'what to measure; FAT5_THREADS limits the threads',
  },
  flags: {
    python: optional(path('Python with PyTorch and transformers: measures the same right after and prints the ratio')),
    only: many(text('train, gpu, gpu-kernels: these cases')),
    json: toggle('print JSON lines'),
  },
  async run(flags, [subject, ...more]) {
    const names = Object.keys(subjects);
    if (subject === undefined || more.length > 0) throw new UsageError(`bench: expected one of ${names.join(', ')}`);
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
    if (ours.length === 0) throw new UsageError(`bench: there is no shape "${flags.only.join(' ')}"`);
    const theirs =
      flags.python === undefined ? new Map<string, Measurement>() : peerOf(flags.python, subject, flags.only);
    for (const measurement of ours) {
      const peer = theirs.get(measurement.case);
      console.log(flags.json ? JSON.stringify({ ...measurement, peer }) : line(measurement, peer));
    }
  },
});

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
  const beside = peer ? `  PyTorch ${figures(peer)}: ${(peer.milliseconds / ours.milliseconds).toFixed(2)} x` : '';
  return `${ours.case.padEnd(46)} ${figures(ours)}${beside}`;
}
