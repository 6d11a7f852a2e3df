/** What a GPU would be asked to do, checked without one: launch plans, packed arguments, and that the sources compile. */
import assert from 'node:assert/strict';
import { spawn, spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { existsSync, mkdirSync, readFileSync, renameSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, test } from 'node:test';
import { architecture, defineOptions, expandSource, sourceFolder } from '../src/backend/cuda/nvrtc.ts';
import type { CudaDevice, CudaLaunch, CudaPlan } from '../src/backend/cuda/plan.ts';
import { type Prepared, prepare, type Specialisation } from '../src/backend/cuda/program.ts';
import type { FloatType } from '../src/backend/dtype.ts';
import { type AnyKernel, defineKernel } from '../src/backend/kernel.ts';
import { attentionPackedBackward, attentionPackedForward } from '../src/ops/attention/attention_packed.ts';
import { kernels } from '../src/ops/registry.ts';
import { preparedCases, specialisations } from './harness.ts';

const types: FloatType[] = ['f32', 'bf16', 'f16'];
/** A100, L4, H100: shared memory of a block as these report it. */
const a100: CudaDevice = { arch: 80, multiprocessors: 108, sharedBytes: 166_912 };
const l4: CudaDevice = { arch: 89, multiprocessors: 58, sharedBytes: 101_376 };
const h100: CudaDevice = { arch: 90, multiprocessors: 132, sharedBytes: 232_448 };

describe('every launch plan fits its contract and the device', () => {
  for (const kernel of kernels)
    test(kernel.name, { skip: !kernel.cuda && 'no CUDA implementation yet' }, () => {
      for (const device of [a100, l4, h100])
        for (const { launches } of preparedCases(kernel, types, device)) {
          assert.ok(launches.length > 0);
          for (const launch of launches) {
            if (launch.kind === 'gemm') continue;
            const path = join(sourceFolder, launch.specialisation.source);
            assert.ok(existsSync(path), `${path} is there`);
            assert.match(readFileSync(path, 'utf8'), new RegExp(`\\b${launch.entry}\\s*\\(`));
          }
        }
    });
});

/** A contract with every kind of argument and a plan to be replaced. */
const example = (cuda: CudaPlan) =>
  defineKernel({
    name: 'example',
    inputs: { x: '[N,D]', ids: 'i32[N]?' },
    updates: { sum: 'f32[D]' },
    outputs: { y: '[N,D]' },
    scalars: { eps: 'f32', causal: 'i32' },
    cases: [],
    reference() {},
    cuda,
  }) as unknown as AnyKernel;
const call = { sizes: { N: 3, D: 2 ** 33 }, scalars: { eps: 0.5, causal: -1 }, type: 'bf16' as const };
const prepareExample = (plan: CudaPlan, absent: string[] = []): Prepared =>
  prepare(example(plan), { ...call, absent: new Set(absent) }, h100);
const launch = { source: 'example/example.cu', entry: 'example', grid: [3] as const, block: 64 };

test('arguments are packed in the order of the contract, each at a multiple of its size', () => {
  const plan: CudaPlan = () => ({ workspace: { partial: 12 }, launches: [launch] });
  const [first] = prepareExample(plan).launches;
  assert.ok(first?.kind === 'launch');
  // x ids sum y, N D, eps causal, partial
  assert.deepEqual(first.pointers, [
    [0, 0],
    [8, 1],
    [16, 2],
    [24, 3],
    [56, 4],
  ]);
  const view = new DataView(first.template.buffer);
  assert.equal(first.template.length, 64);
  assert.equal(view.getBigInt64(32, true), 3n);
  assert.equal(view.getBigInt64(40, true), 2n ** 33n);
  assert.equal(view.getFloat32(48, true), 0.5);
  assert.equal(view.getInt32(52, true), -1);
});

test('a plan may name its own arguments; what follows a number of four bytes is aligned again', () => {
  const plan: CudaPlan = ({ has }) => ({
    launches: [{ ...launch, arguments: ['eps', 'y', 'causal', 'N', ...(has('ids') ? ['ids'] : [])] }],
  });
  const [first] = prepareExample(plan, ['ids']).launches;
  assert.ok(first?.kind === 'launch');
  assert.deepEqual(first.pointers, [[8, 3]]);
  assert.equal(first.template.length, 32);
  assert.equal(new DataView(first.template.buffer).getBigInt64(24, true), 3n);
});

test('descriptions of matrices lie at multiples of 64 bytes, and the arguments beside them are given one by one', () => {
  const boxes = { boxesOf: 'x', rows: 3, columns: 8, box: 64 };
  const [first] = prepareExample(() => ({
    launches: [{ ...launch, arguments: ['eps', boxes, 'y', boxes, 'N'] }],
  })).launches;
  assert.ok(first?.kind === 'launch');
  const { boxesOf, ...matrix } = boxes;
  assert.deepEqual(first.boxes, [
    { ...matrix, place: 0, type: 'bf16', offset: 64 },
    { ...matrix, place: 0, type: 'bf16', offset: 256 },
  ]);
  assert.deepEqual(first.pointers, [[192, 3]]);
  assert.deepEqual(first.offsets, [0, 64, 192, 256, 384]);
  assert.equal(first.template.length, 392);
});

test('an empty grid is not launched', () => {
  assert.deepEqual(prepareExample(() => ({ launches: [{ ...launch, grid: [0, 4] }] })).launches, []);
});

test('a product knows the types of its matrices', () => {
  const gemm = { a: 'x', b: 'y', c: 'sum', m: 2, n: 2, k: 3, transposeA: true, transposeB: false, alpha: 1, beta: 1 };
  const [first] = prepareExample(() => ({ launches: [{ gemm }] })).launches;
  assert.deepEqual(first, { ...gemm, kind: 'gemm', a: 0, b: 3, c: 2, type: 'bf16', resultType: 'f32' });
});

test('a plan that does not fit says what is wrong', () => {
  const refuses = (change: Partial<Parameters<typeof Object.assign>[0]>, why: RegExp) =>
    assert.throws(() => prepareExample(() => ({ launches: [{ ...launch, ...change }] })), why);
  refuses({ grid: [1, 70_000] }, /example: its CUDA plan launches example on a grid of 1,70000/);
  refuses({ block: 2048 }, /blocks of 2048 threads/);
  refuses({ sharedBytes: 232_449 }, /232449 bytes of shared memory, the device has 232448/);
  refuses({ arguments: ['z'] }, /"z", which is no argument, workspace, letter or scalar/);
  assert.throws(() => prepareExample(() => ({ workspace: { x: 1 }, launches: [] })), /name of an argument/);
  assert.throws(
    () =>
      prepare({ ...example(() => ({ launches: [] })), cuda: undefined } as never, { ...call, absent: new Set() }, h100),
    /example: has no CUDA implementation/,
  );
});

test('every kernel of attention that takes parts of rows reads how far apart they are', () => {
  for (const [M, N, causal, given] of [
    [568, 568, 0, ['bias', 'dbias']],
    [114, 114, 1, ['bias', 'dbias']],
    [114, 568, 0, ['querySegments', 'keySegments']],
    [40, 4096, 0, ['dense', 'ddense', 'rng']],
  ] as const)
    for (const kernel of [attentionPackedForward, attentionPackedBackward])
      for (const [type, D] of [
        ['bf16', 64],
        ['bf16', 128],
        ['bf16', 40],
        ['f32', 64],
      ] as const) {
        const { launches } = kernel.cuda!({
          sizes: { B: 144, M, N, H: 12, D, P: 257, E: 1, G: 12, Q: 3, R: 3 },
          scalars: { scale: 1, causal, queryOffset: 0, dropout: 0.1, site: 0 },
          type,
          device: h100,
          has: (name) => !/bias|dense|Segments|Positions|rng/.test(name) || (given as readonly string[]).includes(name),
        });
        for (const launch of launches as readonly CudaLaunch[])
          if (launch.arguments!.some((name) => typeof name !== 'string'))
            assert.match(readFileSync(join(sourceFolder, launch.source), 'utf8'), /keyStride/, launch.source);
      }
});

const nvcc = ['nvcc', '/usr/local/cuda/bin/nvcc'].find((path) => !spawnSync(path, ['--version']).error);

describe('every CUDA source compiles for sm_80, sm_89 and sm_90a', { skip: !nvcc && 'nvcc is not installed' }, () => {
  const found = new Map<string, Specialisation>();
  for (const kernel of kernels)
    for (const device of [h100, a100])
      for (const what of specialisations(kernel, ['bf16'], device)) found.set(JSON.stringify(what), what);
  // One set of constants of each source: the others differ in numbers only, and a GPU's tests compile them all.
  const one = new Map([...found.values()].map((what) => [what.source, what]));
  for (const what of one.values()) test(what.source, { concurrency: 2 }, () => compiles(what));
});

/** Compiles with nvcc unless the same text did before; a source named for Hopper for that alone. */
async function compiles(what: Specialisation): Promise<void> {
  const options = defineOptions(what);
  for (const device of what.source.endsWith('_sm90.cu') ? [h100] : [a100, l4, h100]) {
    const sm = architecture(device.arch);
    options.push(`-gencode=arch=${sm.replace('sm', 'compute')},code=${sm}`);
  }
  const hash = createHash('sha256').update(options.join(' ')).update(expandSource(what.source)).digest('hex');
  const folder = join(tmpdir(), 'fat5-nvcc');
  const path = join(folder, `${hash.slice(0, 32)}.fatbin`);
  if (existsSync(path)) return;
  mkdirSync(folder, { recursive: true });
  const temporary = `${path}.${process.pid}`;
  const args = [...options, '-I', sourceFolder, '-fatbin', '-t', '3', '-o', temporary, join(sourceFolder, what.source)];
  const child = spawn(nvcc!, args, { stdio: ['ignore', 'pipe', 'pipe'] });
  let log = '';
  child.stdout.on('data', (text) => (log += text));
  child.stderr.on('data', (text) => (log += text));
  const code = await new Promise((resolve) => child.on('close', resolve));
  assert.equal(code, 0, log);
  renameSync(temporary, path);
  writeFileSync(`${path}.log`, log);
}
