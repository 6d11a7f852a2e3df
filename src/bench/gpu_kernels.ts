/** Kernels that memory bounds, each alone on a GPU at a training step's sizes, beside a copy of 2 GiB. */
import type { Backend, FloatType, HostArray, Memory } from '../backend/backend.ts';
import { openCuda } from '../backend/cuda/open.ts';
import { type AnyKernel, argumentsOf, dimOrder, parsePattern, shapeOf } from '../backend/kernel.ts';
import { t5Config } from '../model/config.ts';
import { parameterTable } from '../model/parameter_table.ts';
import { kernels } from '../ops/registry.ts';
import { CHUNK, chunkTable } from '../tensor/chunks.ts';
import { layOut } from '../tensor/parameters.ts';
import { elements } from '../tensor/tensor.ts';
import { IGNORED } from '../util/batch.ts';
import { type Measurement, noise } from './bench.ts';

interface Case {
  name: string;
  kernel: string;
  type: FloatType;
  sizes: Record<string, number>;
  /** What must be read and written, in bytes. */
  bytes: number;
  scalars?: Record<string, number>;
  absent?: readonly string[];
  /** Arguments that noise will not do for. */
  fill?: Record<string, HostArray>;
}

/** Launches of one recording, its runs between two looks at the clock, and how often that is done. */
const LAUNCHES = 16;
const RUNS = 12;
const TRIALS = 5;

/** Measures the cases whose names contain one of `only`, all without. @throws BackendError without a GPU */
export async function benchGpuKernels(only: readonly string[]): Promise<Measurement[]> {
  const backend = openCuda();
  const found: Measurement[] = [];
  for (const c of [...streams(), ...norms(), ...losses(), ...embeddings(), ...optimizers()]) {
    if (only.length > 0 && !only.some((part) => c.name.includes(part))) continue;
    backend.resetPeak();
    const milliseconds = await timed(backend, c);
    const peakMegabytes = backend.usage.peakBytes / 1e6;
    found.push({ case: c.name, milliseconds, rate: c.bytes / milliseconds / 1e6, unit: 'GB/s', peakMegabytes });
    backend.trim();
  }
  return found;
}

async function timed(backend: Backend, { kernel: name, type, sizes, scalars = {}, absent, fill }: Case) {
  const kernel = kernels.find((k) => k.name === name)!;
  const held: Memory[] = [];
  const args = Object.entries(argumentsOf(kernel)).map(([argument, pattern]) => {
    if (absent?.includes(argument)) return null;
    const { type: declared } = parsePattern(pattern);
    const memory = backend.alloc(declared === 'T' ? type : declared, elements(shapeOf(pattern, sizes)));
    held.push(memory);
    if (fill?.[argument]) backend.write(memory, fill[argument]);
    else if (memory.dtype === 'i32') backend.write(memory, new Int32Array(memory.length));
    else randomise(backend, memory);
    return memory;
  });
  const dims = dimOrder(kernel).map((dim) => sizes[dim]!);
  const values = Object.keys(kernel.scalars).map((scalar) => scalars[scalar]!);
  const launch = () => backend.launch(kernel, type, args, dims, values);
  launch();
  const recording = backend.capture!(() => {
    for (let i = 0; i < LAUNCHES; i++) launch();
  });
  const probe = backend.alloc('f32', 1);
  const wait = () => backend.read(probe, new Float32Array(1));
  const times: number[] = [];
  for (let i = 0; i < TRIALS; i++) {
    await wait();
    const started = performance.now();
    for (let run = 0; run < RUNS; run++) recording.run();
    await wait();
    times.push((performance.now() - started) / (RUNS * LAUNCHES));
  }
  recording.dispose();
  for (const memory of [...held, probe]) backend.free(memory);
  return times.sort((a, b) => a - b)[TRIALS >> 1]!;
}

const accumulate = kernels.find((k) => k.name === 'accumulate') as AnyKernel;

/** Noise in [-1,1), repeated on the device. */
function randomise(backend: Backend, memory: Memory): void {
  const length = Math.min(memory.length, 1 << 22);
  const host = noise(length);
  const upper = () => Uint16Array.from(new Uint32Array(host.buffer), (bits) => bits >>> 16); // bfloat16
  backend.write(memory.slice(0, length), memory.dtype === 'f32' ? host : upper());
  for (let start = length; start < memory.length; start += length) {
    const count = Math.min(length, memory.length - start);
    const part = [memory.slice(0, count), memory.slice(start, count)];
    backend.launch(accumulate, memory.dtype as FloatType, part, [count], [0]);
  }
}

const streams = (): Case[] => {
  const N = 81_792 * 2048;
  const bf16 = { type: 'bf16', sizes: { N } } as const;
  const gelu = { scalars: { kind: 2 } };
  return [
    { ...bf16, name: 'copy', kernel: 'accumulate', sizes: { N: 1 << 29 }, scalars: { beta: 0 }, bytes: 2 ** 31 },
    { ...bf16, name: 'add 81792 x 2048', kernel: 'add', bytes: 6 * N },
    { ...bf16, name: 'gated GELU 81792 x 2048', kernel: 'gated_activation_forward', ...gelu, bytes: 6 * N },
    { ...bf16, name: 'gated GELU backward 81792 x 2048', kernel: 'gated_activation_backward', ...gelu, bytes: 10 * N },
    { ...bf16, name: 'dropout 81792 x 2048', kernel: 'dropout', scalars: { rate: 0.1, site: 1 }, bytes: 4 * N },
  ];
};

const norms = (): Case[] =>
  [
    [65_536, 512],
    [65_536, 768],
    [32_768, 1024],
    [16_384, 4096],
  ].flatMap(([N, D]) => {
    const bytes = 2 * N! * D!;
    const of = (name: string, kernel: string, arrays: number): Case => ({
      ...{ name: `${name} ${N} x ${D}`, kernel, type: 'bf16', sizes: { N: N!, D: D! } },
      ...{ scalars: { eps: 1e-6 }, bytes: arrays * bytes },
    });
    return [
      of('RMSNorm', 'rms_norm_forward', 2),
      of('RMSNorm backward', 'rms_norm_backward', 3),
      of('add and RMSNorm', 'add_rms_norm_forward', 4),
      of('add and RMSNorm backward', 'add_rms_norm_backward', 4),
    ];
  });

const losses = (): Case[] =>
  [
    [16_384, 32_768],
    [16_416, 32_128],
  ].map(([N, V]) => ({
    ...{ name: `cross entropy and its gradient ${N} x ${V}`, kernel: 'cross_entropy', type: 'bf16' },
    ...{ sizes: { N: N!, V: V! }, scalars: { labelSmoothing: 0, zLoss: 1e-4, scale: 1, writeGradient: 1 } },
    fill: { labels: ids(N!, V!).map((id, n) => (n % 16 === 5 ? IGNORED : id)) },
    bytes: 4 * N! * V!,
  }));

/** Ids as frequent as the words of a language: the n-th about 1/n as often as the first. */
const ids = (length: number, V: number): Int32Array =>
  Int32Array.from(noise(length), (x) => Math.min(V - 1, Math.floor(V ** ((x + 1) / 2)) - 1));

const embeddings = (): Case[] => {
  const [N, V, D] = [81_792, 32_128, 768];
  const common = { type: 'bf16', sizes: { N, V, D }, fill: { ids: ids(N, V) } } as const;
  const gradient = { kernel: 'embedding_backward', scalars: { beta: 0 }, bytes: 2 * N * D + 4 * V * D };
  return [
    { ...common, name: `embedding ${N} x ${D}`, kernel: 'embedding_forward', bytes: 4 * N * D },
    { ...common, ...gradient, name: `embedding backward ${N} x ${D} of ${V}` },
  ];
};

/** T5-v1.1-base, 248 M parameters. */
const optimizers = (): Case[] => {
  const config = t5Config({ feed_forward_proj: 'gated-gelu', tie_word_embeddings: false, d_ff: 2048, d_model: 768 });
  const base = { ...config, num_layers: 12, num_decoder_layers: 12, num_heads: 12, vocab_size: 32_128 };
  const { places, length: N } = layOut(parameterTable(base, 'conditional_generation'));
  const { chunks, lengths, state: S } = chunkTable(places);
  const sizes = { N, S, C: chunks.length / 4, P: places.length };
  const hyper = Float32Array.of(0.9, 0.1, 0.999, 0.001, 1e-4, 1e-6, 1e-4, 1, 1);
  const fill = { chunks, lengths, hyper, norm: Float32Array.of(2), rng: Int32Array.of(1, 2) };
  const adamw = (name: string, type: FloatType, bytes: number, absent: string[]): Case => ({
    ...{ name: `AdamWScale ${name}`, kernel: 'adamw', type, sizes, fill, absent, bytes: bytes * N },
  });
  return [
    adamw('float32', 'f32', 28, ['compensation', 'rng', 'master']),
    adamw('bfloat16 with float32 copies', 'bf16', 30, ['compensation', 'rng']),
    adamw('bfloat16, compensated', 'bf16', 28, ['rng', 'master']),
    adamw('bfloat16, stochastic', 'bf16', 24, ['compensation', 'master']),
    {
      ...{
        name: 'AdamWScale bfloat16 with its state, compensated',
        kernel: 'adamw_compact',
        type: 'bf16',
        sizes,
        fill,
      },
      ...{ absent: ['rng', 'master'], bytes: 20 * N },
    },
    {
      ...{ name: 'global norm', kernel: 'global_norm', type: 'f32', bytes: 4 * N },
      sizes: { N, K: Math.ceil(N / CHUNK) },
    },
  ];
};
