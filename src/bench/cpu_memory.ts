/** What one piece of work with one model takes in memory: the peak of a process of its own. */
import { spawnSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import type { ModelDtype } from '../model/storage.ts';
import { BackendError } from '../util/errors.ts';
import type { Measurement } from './bench.ts';
import type { Work } from './cpu.ts';

type Memory = Required<Pick<Measurement, 'peakMegabytes' | 'before' | 'weightMegabytes'>>;

/** Runs this module's `measure` in a process. @throws BackendError if that fails */
export async function memoryOf(folder: string, dtype: ModelDtype, work: Work): Promise<Memory> {
  const script = `const { measure } = await import(process.argv[1]); await measure(...process.argv.slice(2));`;
  const values = [import.meta.url, folder, dtype, JSON.stringify(work)];
  const { stdout, stderr, status } = spawnSync(process.execPath, ['--input-type=module', '-e', script, ...values], {
    encoding: 'utf8',
  });
  if (status !== 0) throw new BackendError(`bench: measuring memory failed: ${stderr.trim().split('\n').at(-1)}`);
  return JSON.parse(stdout) as Memory;
}

/** Prints the memory of this process as JSON: before it has a model, and at most while it works with one. */
export async function measure(folder: string, dtype: ModelDtype, work: string): Promise<void> {
  const { T5ForConditionalGeneration } = await import('../model/t5.ts');
  const { runOf } = await import('./cpu.ts');
  const { openCpu } = await import('../backend/cpu/cpu.ts');
  openCpu();
  const before = megabytes();
  const model = await T5ForConditionalGeneration.from_pretrained(folder, { device: 'cpu', dtype });
  await runOf(JSON.parse(work) as Work, model)();
  const distinct = new Map([...model.parameters.all.values()].map((tensor) => [tensor.memory, tensor.bytes]));
  const weights = [...distinct.values()].reduce((sum, bytes) => sum + bytes, 0);
  console.log(JSON.stringify({ before, peakMegabytes: megabytes(), weightMegabytes: weights / 1e6 }));
}

/** The most that has been resident so far. */
function megabytes(): number {
  const kibibytes = /^VmHWM:\s*(\d+)/m.exec(readFileSync('/proc/self/status', 'utf8'))?.[1];
  return (Number(kibibytes ?? process.resourceUsage().maxRSS) * 1024) / 1e6;
}
