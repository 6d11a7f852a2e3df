import { spawnSync } from 'node:child_process';
import { existsSync, readFileSync } from 'node:fs';
import { arch, availableParallelism, cpus, freemem, platform, release, totalmem } from 'node:os';
import type { Backend } from '../backend/backend.ts';
import { instructionSets, openCpu } from '../backend/cpu/cpu.ts';
import { cudaReport, hasGpu, openCuda } from '../backend/cuda/open.ts';
import { openReference } from '../backend/reference.ts';
import { rmsNormForward } from '../ops/rms_norm/rms_norm.ts';
import { run } from '../tensor/autograd.ts';
import { scope } from '../tensor/scope.ts';
import { Tensor } from '../tensor/tensor.ts';
import { BackendError } from '../util/errors.ts';
import { nativeDirectory } from '../util/native.ts';
import { defineCommand, table } from './command.ts';

const gib = (bytes: number) => `${(bytes / 2 ** 30).toFixed(1)} GiB`;

/** Runs one kernel and compares it with its formula; says what happened. */
async function tryKernel(open: () => Backend): Promise<{ line: string; works: boolean }> {
  try {
    const backend = open();
    const started = performance.now();
    const y = scope(() => {
      const x = Tensor.from(backend, 'f32', [1, 2], [3, 4]);
      const weight = Tensor.from(backend, 'f32', [2], [1, 2]);
      return run(rmsNormForward, { x, weight }, { scalars: { eps: 0 } }).y;
    });
    const [a, b] = await y.read();
    const rms = Math.sqrt(12.5);
    const works = Math.abs(a! - 3 / rms) < 1e-5 && Math.abs(b! - 8 / rms) < 1e-5;
    const time = `${(performance.now() - started).toFixed(1)} ms`;
    return { works, line: works ? `works (one kernel, first call ${time})` : `WRONG: rms_norm gives ${a}, ${b}` };
  } catch (error) {
    if (!(error instanceof BackendError)) throw error;
    return { works: false, line: error.message };
  }
}

function compiler(): string {
  const command = process.env.CXX ?? 'g++';
  const { stdout, error } = spawnSync(command, ['--version'], { encoding: 'utf8' });
  return error ? `${command} not found: needed to build, not to run` : stdout.split('\n')[0]!;
}

/** Bytes that control groups allow this process, undefined when unlimited. */
function memoryLimit(): number | undefined {
  for (const path of ['/sys/fs/cgroup/memory.max', '/sys/fs/cgroup/memory/memory.limit_in_bytes']) {
    const limit = existsSync(path) ? Number(readFileSync(path, 'utf8')) : Number.NaN;
    if (limit < totalmem()) return limit;
  }
  return undefined;
}

export const doctor = defineCommand({
  name: 'doctor',
  summary: 'Say what this machine has and whether every backend works.',
  flags: {},
  async run() {
    const sets = instructionSets();
    const backends = {
      'cpu backend': await tryKernel(() => openCpu()),
      'reference backend': await tryKernel(openReference),
      ...(hasGpu() && { 'cuda backend': await tryKernel(openCuda) }),
    };
    const limit = memoryLimit();
    const rows = [
      ['node', process.version],
      ['platform', `${platform()} ${release()} ${arch()}`],
      ['processor', `${cpus()[0]?.model.trim() ?? 'unknown'}`],
      ['threads', `${process.env.FAT5_THREADS ?? availableParallelism()} of ${cpus().length}`],
      ['memory', `${gib(totalmem())}, ${gib(freemem())} free${limit ? `, ${gib(limit)} allowed` : ''}`],
      [
        'instruction sets',
        sets.length > 0 ? `${sets.join(', ')}; uses ${process.env.FAT5_ISA ?? sets[0]}` : 'none built',
      ],
      ['native libraries', nativeDirectory],
      ['compiler', compiler()],
      ...cudaReport(),
      ...Object.entries(backends).map(([name, { line }]) => [name, line]),
    ];
    console.log(table(rows).join('\n'));
    if (Object.values(backends).some(({ works }) => !works)) process.exitCode = 1;
  },
});
