import { spawnSync } from 'node:child_process';
import { appendFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import type { Measurement } from '../bench/bench.ts';
import type { GpuCase } from '../bench/gpu_case.ts';
import type { PrecisionDevice } from '../bench/precision.ts';
import { modelFolder } from '../train/model_folder.ts';
import { UsageError } from '../util/errors.ts';
import { suggestion } from '../util/suggest.ts';
import { choice, defineCommand, many, optional, path, text } from './command.ts';

const subjects: Record<string, (only: readonly string[]) => Promise<Measurement[]>> = {
  gemm: async () => (await import('../bench/gemm.ts')).benchGemm(),
  attention: async () => (await import('../bench/attention.ts')).benchAttention(),
  train: async (only) => (await import('../bench/train_step.ts')).benchTraining(only),
  cpu: async (only) => (await import('../bench/cpu.ts')).benchCpu(only),
  collator: async () => (await import('../bench/collator.ts')).benchCollator(),
};
/** On a GPU: each measurement is printed as it is found, and peers take turns with us. */
const gpuSubjects: Record<string, () => Promise<GpuCase[]>> = {
  gpu: async () => (await import('../bench/gpu.ts')).gpuCases,
  'gpu-kernels': async () => (await import('../bench/gpu_kernels.ts')).gpuKernelCases(),
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
    python: optional(
      path(
        'Python with PyTorch and transformers: measures the same right after and prints the ratio; on a GPU flashT5, turboT5 and nai-t5 too where it can import them',
      ),
    ),
    only: many(text('train, cpu, gpu, gpu-kernels: these cases')),
    peer: optional(path("cpu: JSON lines with another program's case, ms and impl: prints the ratio")),
    model: optional(path('precision: folder of a model; random weights when left out')),
    json: optional(path('add the measurements to this file, as JSON lines')),
    plots: optional(path('gpu, gpu-kernels: folder for plots (SVG)')),
    device: choice('precision: where it runs', ['cpu', 'cuda'], 'cpu'),
  },
  async run(flags, [subject, ...more]) {
    const names = [...Object.keys(subjects), ...Object.keys(gpuSubjects), PRECISION];
    if (subject === undefined || more.length > 0) throw new UsageError(`bench: expected one of ${names.join(', ')}`);
    if (Object.hasOwn(gpuSubjects, subject)) return benchGpu(await gpuSubjects[subject]!(), subject, flags);
    if (subject === PRECISION) {
      const folder = flags.model && modelFolder(flags.model);
      return printPrecision({ folder, device: flags.device }, flags.json);
    }
    if (!Object.hasOwn(subjects, subject))
      throw new UsageError(`bench: unknown "${subject}", ${suggestion(subject, names)}`);
    if (subject === 'train' && flags.only.length !== 1) {
      // A process each, so that memory is that of one shape.
      const { trainingCases } = await import('../bench/train_step.ts');
      for (const name of flags.only.length > 0 ? flags.only : trainingCases) {
        const rest = [
          ...(flags.python ? ['--python', flags.python] : []),
          ...(flags.json ? ['--json', flags.json] : []),
        ];
        spawnSync(process.execPath, [process.argv[1]!, 'bench', 'train', '--only', name, ...rest], {
          stdio: 'inherit',
        });
      }
      return;
    }
    const ours = await subjects[subject]!(flags.only);
    if (ours.length === 0) throw nothingChosen(flags.only, subject);
    const theirs = await peersOf(flags, subject);
    for (const measurement of ours) {
      const peer = theirs.get(measurement.case);
      print(peer ? { ...measurement, peers: [{ peer: 'peer', ...peer }] } : measurement, flags.json);
    }
  },
});

const nothingChosen = (only: readonly string[], subject: string) =>
  new UsageError(`bench: there is no case "${only.join(' ')}", expected some of those that "bench ${subject}" prints`);

async function benchGpu(
  all: readonly GpuCase[],
  subject: string,
  { python, only, json, plots }: Record<'python' | 'json' | 'plots', string | undefined> & { only: readonly string[] },
): Promise<void> {
  const { chosen, measureCases } = await import('../bench/gpu_case.ts');
  const { GpuPeers } = await import('../bench/gpu_peers.ts');
  const cases = chosen(all, only);
  if (cases.length === 0) throw nothingChosen(only, subject);
  const peers =
    python === undefined
      ? undefined
      : new GpuPeers(
          python,
          cases.flatMap(({ peer }) => peer ?? []),
        );
  const found: Measurement[] = [];
  try {
    for await (const measurement of measureCases(cases, peers)) {
      print(measurement, json);
      found.push(measurement);
    }
  } finally {
    peers?.end();
  }
  if (plots !== undefined)
    for (const file of (await import('../bench/gpu_plots.ts')).writePlots(found, plots)) console.log(file);
}

async function printPrecision(
  of: { folder: string | undefined; device: PrecisionDevice },
  json: string | undefined,
): Promise<void> {
  const { benchPrecision } = await import('../bench/precision.ts');
  for (const found of await benchPrecision(of)) {
    const quantiles = Object.entries(found.quantiles).map(([name, value]) => `${name} ${value.toExponential(2)}`);
    const about = `${found.dtype.padEnd(9)} ${quantiles.join('  ')}`;
    console.log(`${about}  (${found.elements} elements, root mean square ${found.size.toFixed(3)})`);
    if (json !== undefined) appendFileSync(json, `${JSON.stringify(found)}\n`);
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

/** A measurement, and its peers below it with how many times as long they took. */
function print(found: Measurement, json: string | undefined): void {
  const figures = (m: Pick<Measurement, 'milliseconds' | 'rate' | 'peakMegabytes' | 'before' | 'weightMegabytes'>) =>
    `${m.milliseconds.toFixed(m.milliseconds < 1 ? 4 : 2)} ms, ${m.rate.toFixed(1)} ${found.unit}` +
    (m.peakMegabytes > 0 ? `, ${m.peakMegabytes.toFixed(0)} MB` : '') +
    (m.before !== undefined && m.weightMegabytes !== undefined
      ? ` = ${m.before.toFixed(0)} + ${((m.peakMegabytes - m.before) / m.weightMegabytes).toFixed(2)} x weights`
      : '');
  console.log(`${found.case.padEnd(46)} ${figures(found)}`);
  for (const { peer, ...theirs } of found.peers ?? [])
    console.log(`  ${peer.padEnd(44)} ${figures(theirs)}: ${(theirs.milliseconds / found.milliseconds).toFixed(2)} x`);
  if (json !== undefined) appendFileSync(json, `${JSON.stringify(found)}\n`);
}
