/**
 * On the CPU: encoding and greedy decoding of T5-v1.1-small's shape with random weights, by dtype. The dtypes take turns, so that
 * a busy moment hits all of them. Memory is that of a process that does nothing else.
 */
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { T5ConfigInput } from '../model/config.ts';
import type { ModelDtype } from '../model/storage.ts';
import { T5ForConditionalGeneration } from '../model/t5.ts';
import { FormatError, UsageError } from '../util/errors.ts';
import type { Measurement } from './bench.ts';
import { memoryOf } from './cpu_memory.ts';

/** T5-v1.1-small. */
export const smallShape: T5ConfigInput = {
  d_model: 512,
  d_kv: 64,
  d_ff: 1024,
  num_layers: 8,
  num_heads: 6,
  vocab_size: 32128,
  feed_forward_proj: 'gated-gelu',
  tie_word_embeddings: false,
  decoder_start_token_id: 0,
};

/** One thing that is measured. */
export interface Work {
  name: string;
  rows: number;
  length: number;
  newTokens: number;
}
const encode = (rows: number, length: number): Work => ({ name: `B${rows} S${length}`, rows, length, newTokens: 0 });
const write = (rows: number): Work => ({ name: `B${rows} in64 new64 greedy`, rows, length: 64, newTokens: 64 });
const works = [encode(1, 32), encode(1, 128), encode(1, 512), encode(8, 128), write(1), write(8)];

/** Seconds for each work, turns at least, and the milliseconds of a turn, in which a dtype finds its weights as the last run left them. */
const SECONDS = 6;
const LEAST_TURNS = 3;
const TURN = 100;

/** What is measured: float8 is for GPUs. */
const dtypes: readonly ModelDtype[] = ['float32', 'bfloat16', 'float16', 'int8'];

/** Models of one set of random weights in some dtypes on a device, and their folder; `use` gets them, then they are gone. */
export async function withModels<R>(
  { config, dtypes, device }: { config: T5ConfigInput; dtypes: readonly ModelDtype[]; device: 'cpu' | 'cuda' },
  use: (models: Map<ModelDtype, T5ForConditionalGeneration>, folder: string) => Promise<R>,
): Promise<R> {
  const folder = mkdtempSync(join(tmpdir(), 'fat5-bench-'));
  const models = new Map<ModelDtype, T5ForConditionalGeneration>();
  try {
    const random = T5ForConditionalGeneration.from_config(config, { device: 'cpu' });
    await random.save_pretrained(folder);
    random.dispose();
    for (const dtype of dtypes)
      models.set(dtype, await T5ForConditionalGeneration.from_pretrained(folder, { device, dtype }));
    return await use(models, folder);
  } finally {
    for (const model of models.values()) model.dispose();
    rmSync(folder, { recursive: true });
  }
}

/** Measures the cases whose names contain one of `only`, all without. */
export function benchCpu(only: readonly string[]): Promise<Measurement[]> {
  const chosen = (name: string) => only.length === 0 || only.some((part) => name.includes(part));
  return withModels({ config: smallShape, dtypes, device: 'cpu' }, async (models, folder) => {
    const found: Measurement[] = [];
    for (const work of works) {
      const runs = [...models]
        .map(([dtype, model]) => ({
          name: `${work.name} ${dtype}`,
          dtype,
          run: runOf(work, model),
          best: Number.POSITIVE_INFINITY,
        }))
        .filter(({ name }) => chosen(name));
      if (runs.length === 0) continue;
      for (const { run } of runs) await run();
      const end = performance.now() + 1000 * SECONDS;
      for (let turn = 0; turn < LEAST_TURNS || performance.now() < end; turn++)
        for (const one of runs)
          for (const last = performance.now() + TURN; ; ) {
            const started = performance.now();
            await one.run();
            const now = performance.now();
            one.best = Math.min(one.best, now - started);
            if (now > last) break;
          }
      const tokens = work.rows * (work.newTokens || work.length);
      for (const { name, best, dtype } of runs)
        found.push({
          case: name,
          milliseconds: best,
          rate: (1000 * tokens) / best,
          unit: 'tokens/s',
          ...(await memoryOf(folder, dtype, work)),
        });
    }
    return found;
  });
}

/** What does the work on a model. */
export function runOf({ rows, length, newTokens }: Work, model: T5ForConditionalGeneration): () => Promise<unknown> {
  const input_ids = Array.from({ length: rows }, (_, r) =>
    Array.from({ length }, (_, i) => 5 + (((r * length + i) * 7919) % 32000)),
  );
  if (newTokens === 0) return () => model.encode({ input_ids });
  return () => model.generate({ input_ids, max_new_tokens: newTokens, eos_token_id: null });
}

/**
 * Another program's measurements of the same by case: JSON lines with `case`, `ms`, and `impl`, which ends with q8 for int8
 * and counts as float32 otherwise. @throws UsageError if the file cannot be read, FormatError if a line says less
 */
export function peerMeasurements(path: string): Map<string, Measurement> {
  let lines: string[];
  try {
    lines = readFileSync(path, 'utf8').split('\n');
  } catch (cause) {
    throw new UsageError(`${path}: cannot be read: ${(cause as Error).message}`, { cause });
  }
  const found = new Map<string, Measurement>();
  for (const [i, line] of lines.entries()) {
    if (line.trim() === '') continue;
    const { case: name, ms, impl } = parsed(line, `${path}:${i + 1}`);
    const work = works.find((w) => w.name === name);
    if (!work) continue;
    const key = `${name} ${impl.endsWith('q8') ? 'int8' : 'float32'}`;
    const rate = (1000 * work.rows * (work.newTokens || work.length)) / ms;
    const best = found.get(key);
    if (!best || ms < best.milliseconds)
      found.set(key, { case: key, milliseconds: ms, rate, unit: 'tokens/s', peakMegabytes: 0 });
  }
  return found;
}

function parsed(line: string, where: string): { case: string; ms: number; impl: string } {
  let value: unknown;
  try {
    value = JSON.parse(line);
  } catch (cause) {
    throw new FormatError(`${where}: is not JSON: ${(cause as Error).message}`, { cause });
  }
  const { case: name, ms, impl } = (value ?? {}) as Record<string, unknown>;
  if (typeof name !== 'string' || typeof ms !== 'number' || !(ms > 0) || typeof impl !== 'string')
    throw new FormatError(`${where}: is ${line.slice(0, 80)}, expected {"case": text, "ms": number, "impl": text}`);
  return { case: name, ms, impl };
}
