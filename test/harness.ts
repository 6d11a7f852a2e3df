/** One parity harness for every kernel: fills, runs, compares. Used by all tests of kernels and ops, on the CPU and on a GPU. */
import type { Backend, Memory } from '../src/backend/backend.ts';
import { CudaBackend } from '../src/backend/cuda/cuda.ts';
import type { CudaDevice } from '../src/backend/cuda/plan.ts';
import { isFor, type Prepared, prepare, type Specialisation } from '../src/backend/cuda/program.ts';
import { openDevice } from '../src/backend/devices.ts';
import { type FloatType, fromHost, hostArray, roundTo, toHost } from '../src/backend/dtype.ts';
import { type AnyKernel, argumentsOf, bindSizes, dimOrder, parsePattern, shapeOf } from '../src/backend/kernel.ts';
import { elements } from '../src/tensor/tensor.ts';
import { float8Step, roundToFloat8 } from '../src/util/float8.ts';

const CANARY = 1024; // elements past the end of each output that must stay NaN

/** Deterministic uniform numbers in [0, 1): the same seed gives the same test everywhere (mulberry32). */
export function uniform(seed: number): () => number {
  let s = seed >>> 0;
  return () => {
    s = (s + 0x6d2b79f5) | 0;
    let t = Math.imul(s ^ (s >>> 15), 1 | s);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32;
  };
}

export type TestCase = AnyKernel['cases'][number];
type Values = Record<string, Float64Array | undefined>;

/** The device that tests judge by the reference: the CPU, or the GPU with FAT5_DEVICE=cuda. */
export const testedDevice = process.env.FAT5_DEVICE === 'cuda' ? 'cuda' : 'cpu';
export const testedBackend = (): Backend => openDevice(testedDevice);

/** The backend on which every kernel is compared with its reference: the CPU, or what FAT5_DEVICE names. */
export const testBackends = (): { backend: Backend; types: FloatType[] }[] => [
  { backend: testedBackend(), types: testedDevice === 'cuda' ? ['f32', 'bf16', 'f16'] : ['f32', 'bf16'] },
];

/** Why a backend cannot run a kernel in a type, false where it can. */
export function cannotRun(backend: Backend, kernel: AnyKernel, type: FloatType): string | false {
  if (kernel.types && !kernel.types.includes(type)) return `not for ${type}`;
  if (backend.offers?.(kernel) === false) return 'not for this compute capability';
  return backend.name === 'cuda'
    ? !kernel.cuda && 'no CUDA implementation yet'
    : kernel.only === 'cuda' && 'for CUDA devices alone';
}

/** Compiles all that the cases of some kernels need on a GPU, many at a time: one after another takes minutes. */
export async function compileCases(backend: Backend, kernels: readonly AnyKernel[], types: readonly FloatType[]) {
  if (!(backend instanceof CudaBackend)) return;
  const { device } = backend.driver;
  await backend.compiler.compileAll(kernels.flatMap((kernel) => specialisations(kernel, types, device)));
}

/** What a kernel's cases are compiled to on a device; nothing if it has no plan. */
export function specialisations(kernel: AnyKernel, types: readonly FloatType[], device: CudaDevice): Specialisation[] {
  return preparedCases(kernel, types, device).flatMap(({ launches }) =>
    launches.flatMap((launch) => (launch.kind === 'launch' ? [launch.specialisation] : [])),
  );
}

/** A kernel's cases, prepared for a device. */
export function preparedCases(kernel: AnyKernel, types: readonly FloatType[], device: CudaDevice): Prepared[] {
  if (!kernel.cuda || !isFor(kernel, device)) return [];
  const wanted = types.filter((type) => kernel.types?.includes(type) ?? true);
  return wanted.flatMap((type) =>
    kernel.cases.map(({ sizes, scalars = {}, absent = [] }) =>
      prepare(kernel, { sizes, scalars, type, absent: new Set(absent) }, device),
    ),
  );
}

/** Relative to max(1, |expected|): float32 sums of up to a thousand terms; one rounding to 16 bits. */
export const tolerance = (type: FloatType): number => ({ f32: 2e-5, bf16: 1.2e-2, f16: 2e-3 })[type];

/** Inputs and updates of a case, rounded to the type so that both sides see the same numbers. */
export function randomInputs(kernel: AnyKernel, c: TestCase, type: FloatType, seed = 0): Values {
  const random = uniform(seed + 1);
  const values: Values = {};
  for (const [name, pattern] of Object.entries({ ...kernel.inputs, ...kernel.updates })) {
    if (c.absent?.includes(name)) continue;
    const fill = (kernel.fill as Record<string, ((r: () => number, s: object, i: number) => number) | undefined>)[name];
    const declared = parsePattern(pattern).type;
    const round =
      declared === 'f8' ? roundToFloat8 : roundTo[declared === 'T' ? type : declared === 'f16' ? 'f16' : 'f32'];
    values[name] = new Float64Array(elements(shapeOf(pattern, c.sizes)));
    for (let i = 0; i < values[name].length; i++) {
      const value = fill ? fill(random, c.sizes, i) : random() * 2 - 1;
      values[name][i] = round(value);
    }
  }
  return values;
}

/** The float64 reference on a case: its outputs and updates. `inputs` are not changed. */
export function runReference(kernel: AnyKernel, inputs: Values, c: TestCase): Values {
  const results: Values = {};
  for (const name of Object.keys(kernel.updates)) results[name] = inputs[name]?.slice();
  for (const [name, pattern] of Object.entries(kernel.outputs))
    if (!c.absent?.includes(name))
      results[name] = new Float64Array(elements(shapeOf(pattern, c.sizes))).fill(Number.NaN);
  kernel.reference({ ...inputs, ...results } as Record<string, Float64Array>, c.sizes, c.scalars ?? {});
  return results;
}

/** Runs a kernel on a backend. Outputs start as NaN and carry a canary, so overruns are caught. */
export async function runOn(
  backend: Backend,
  kernel: AnyKernel,
  type: FloatType,
  inputs: Values,
  c: TestCase,
): Promise<Values> {
  const args: (Memory | null)[] = [];
  const held = new Map<string, Memory>();
  const writable = { ...kernel.updates, ...kernel.outputs };
  for (const [name, pattern] of Object.entries(argumentsOf(kernel))) {
    if (c.absent?.includes(name)) {
      args.push(null);
      continue;
    }
    const { type: declared } = parsePattern(pattern);
    const dtype = declared === 'T' ? type : declared;
    const length = elements(shapeOf(pattern, c.sizes));
    const memory = backend.alloc(dtype, name in writable ? length + CANARY : length);
    const host = hostArray(dtype, memory.length);
    if (name in kernel.outputs || name in kernel.updates)
      host.fill({ bf16: 0x7fc0, f16: 0x7e00, f32: Number.NaN, i32: -7, f8: 0x7f, i8: -7 }[dtype]);
    const given = inputs[name];
    if (given) host.set(toHost(dtype, given));
    backend.write(memory, host);
    held.set(name, memory);
    args.push(memory.slice(0, length));
  }
  const shapes = Object.fromEntries(
    Object.entries({ ...kernel.inputs, ...kernel.updates }).map(([name, pattern]) => [
      name,
      c.absent?.includes(name) ? undefined : shapeOf(pattern, c.sizes),
    ]),
  );
  bindSizes(kernel, shapes, c.sizes);
  const scalars = Object.keys(kernel.scalars).map((name) => c.scalars![name]!);
  backend.launch(
    kernel,
    type,
    args,
    dimOrder(kernel).map((dim) => c.sizes[dim]!),
    scalars,
  );
  const results: Values = {};
  for (const name of Object.keys(writable)) {
    const memory = held.get(name);
    if (!memory) continue;
    const host = hostArray(memory.dtype, memory.length);
    await backend.read(memory, host);
    const values = Float64Array.from(fromHost(memory.dtype, host));
    results[name] = values.subarray(0, values.length - CANARY);
    const untouched = (v: number) => (memory.dtype === 'i32' || memory.dtype === 'i8' ? v === -7 : Number.isNaN(v));
    if (!values.subarray(values.length - CANARY).every(untouched))
      throw new Error(`${kernel.name}: wrote past ${name}`);
  }
  for (const memory of held.values()) backend.free(memory);
  return results;
}

/** Runs a case on a backend and on the reference and compares every output and update. */
export async function compare(backend: Backend, kernel: AnyKernel, type: FloatType, c: TestCase): Promise<void> {
  const inputs = randomInputs(kernel, c, type);
  const want = runReference(kernel, inputs, c);
  const got = await runOn(backend, kernel, type, inputs, c);
  for (const [name, expected] of Object.entries(want)) {
    const allowed = Math.max(tolerance(type) * kernel.toleranceFactor, kernel.tolerance ?? 0);
    const isFloat8 = parsePattern(argumentsOf(kernel)[name]!).type === 'f8';
    expected?.forEach((e, i) => {
      const g = got[name]![i]!;
      if (Object.is(g, e) || Math.abs(g - e) <= allowed * Math.max(1, Math.abs(e))) return;
      if (isFloat8 && Math.abs(g - e) <= float8Step(e)) return; // what lies between two numbers may go to either
      throw new Error(`${kernel.name} ${type} ${JSON.stringify(c.sizes)}: ${name}[${i}] = ${g}, expected ${e}`);
    });
  }
}

/**
 * Checks d(sum(cotangent * y))/d(arg) from `backward` against central differences of `forward`, both in float64.
 * `y` is the forward's first output. The cotangent is random: with all ones, softmax and other normalised ops pass
 * with a zero gradient.
 */
export function checkGradient(forward: AnyKernel, backward: AnyKernel, c: TestCase, arg: string, step = 1e-4): void {
  const inputs = randomInputs(forward, c, 'f32', 1);
  const y = Object.keys(forward.outputs)[0]!;
  const results = runReference(forward, inputs, c);
  const random = uniform(2);
  const dy = results[y]!.map(() => random() * 2 - 1);
  const scalars = Object.fromEntries(
    Object.keys(backward.scalars).map((name) => [name, c.scalars?.[name] ?? (name === 'beta' ? 0 : 1)]),
  );
  const absent = [...(c.absent ?? []), ...(c.absent ?? []).map((name) => `d${name}`)];
  const updates: Values = {};
  for (const [name, pattern] of Object.entries(backward.updates))
    if (!(name in inputs)) updates[name] = new Float64Array(elements(shapeOf(pattern, c.sizes)));
  const known = { ...inputs, ...results, ...updates, [`d${y}`]: dy };
  const gradients = runReference(backward, known, { sizes: c.sizes, scalars, absent });
  const loss = () => runReference(forward, inputs, c)[y]!.reduce((sum, v, i) => sum + v * dy[i]!, 0);
  const values = inputs[arg]!;
  for (let i = 0; i < values.length; i++) {
    const v = values[i]!;
    values[i] = v + step;
    const up = loss();
    values[i] = v - step;
    const down = loss();
    values[i] = v;
    const numeric = (up - down) / (2 * step);
    const got = gradients[`d${arg}`]![i]!;
    if (!(Math.abs(numeric - got) <= 1e-6 * Math.max(1, Math.abs(numeric))))
      throw new Error(`${backward.name}: d${arg}[${i}] = ${got}, finite difference ${numeric}`);
  }
}
