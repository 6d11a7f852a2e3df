/** Kernels that memory bounds, each alone on a GPU at a training step's sizes, beside a copy of 2 GiB. */
import type { Backend, Memory } from '../backend/backend.ts';
import type { FloatType, HostArray } from '../backend/dtype.ts';
import { argumentsOf, dimOrder, parsePattern, shapeOf } from '../backend/kernel.ts';
import { t5Config } from '../model/config.ts';
import { parameterTable } from '../model/parameter_table.ts';
import { kernels } from '../ops/registry.ts';
import { CHUNK, chunkTable } from '../tensor/chunks.ts';
import { layOut } from '../tensor/parameters.ts';
import { elements } from '../tensor/tensor.ts';
import { IGNORED } from '../util/batch.ts';
import { noise } from './bench.ts';
import { fillWithNoise, type GpuCase, measured, replayed } from './gpu_case.ts';
import type { PeerWork } from './gpu_peers.ts';

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
  peer?: PeerWork;
}

/** Launches of one recording. */
const LAUNCHES = 16;

async function timed(backend: Backend, { kernel: name, type, sizes, scalars = {}, absent, fill }: Case) {
  const kernel = kernels.find((k) => k.name === name)!;
  const held: Memory[] = [];
  const args = Object.entries(argumentsOf(kernel)).map(([argument, pattern]) => {
    if (absent?.includes(argument)) return null;
    const { type: declared } = parsePattern(pattern);
    const memory = backend.alloc(declared === 'T' ? type : declared, elements(shapeOf(pattern, sizes)));
    held.push(memory);
    if (fill?.[argument]) backend.write(memory, fill[argument]);
    else if (memory.dtype === 'i32') backend.zero(memory);
    else fillWithNoise(backend, memory);
    return memory;
  });
  const dims = dimOrder(kernel).map((dim) => sizes[dim]!);
  const values = Object.keys(kernel.scalars).map((scalar) => scalars[scalar]!);
  const milliseconds = replayed(backend, () => backend.launch(kernel, type, args, dims, values), LAUNCHES);
  for (const memory of held) backend.free(memory);
  return milliseconds;
}

const streams = (): Case[] => {
  const [rows, F] = [81_792, 2048];
  const N = rows * F;
  const bf16 = { type: 'bf16', sizes: { N } } as const;
  const gelu = { type: 'bf16', sizes: { N: rows, F }, scalars: { kind: 2 } } as const;
  return [
    { ...bf16, name: 'copy', kernel: 'accumulate', sizes: { N: 1 << 29 }, scalars: { beta: 0 }, bytes: 2 ** 31 },
    { ...bf16, name: 'add 81792 x 2048', kernel: 'add', bytes: 6 * N },
    { ...gelu, name: 'gated GELU 81792 x 2048', kernel: 'gated_halves_forward', bytes: 6 * N },
    {
      ...gelu,
      name: 'gated GELU backward 81792 x 2048',
      kernel: 'gated_halves_backward',
      absent: ['y'],
      bytes: 10 * N,
    },
    { ...gelu, name: 'gated GELU backward and value 81792 x 2048', kernel: 'gated_halves_backward', bytes: 12 * N },
    { ...bf16, name: 'dropout 81792 x 2048', kernel: 'dropout', scalars: { rate: 0.1, site: 1 }, bytes: 4 * N },
  ];
};

/** Rows of the plots, and what they vary. */
export const plotted = {
  rows: 16_384,
  widths: [1024, 2048, 4096, 8192],
  vocabularies: [8192, 16_384, 32_768, 65_536, 131_072],
};

const norms = (): Case[] =>
  [[65_536, 512], [65_536, 768], [32_768, 1024], ...plotted.widths.map((width) => [plotted.rows, width])].flatMap(
    ([N, D]) => {
      const bytes = 2 * N! * D!;
      const of = (name: string, kernel: string, arrays: number, part?: string): Case => ({
        ...{ name: `${name} ${N} x ${D}`, kernel, type: 'bf16', sizes: { N: N!, D: D! } },
        ...{ scalars: { eps: 1e-6, beta: 0 }, bytes: arrays * bytes },
        ...(kernel.endsWith('backward') && { absent: ['normed'] }),
        ...(part !== undefined && { peer: { kind: 'rms_norm', part, rows: N!, width: D! } }),
      });
      return [
        of('RMSNorm', 'rms_norm_forward', 2, 'forward'),
        of('RMSNorm backward', 'rms_norm_backward', 3, 'backward'),
        of('add and RMSNorm', 'add_rms_norm_forward', 4),
        of('add and RMSNorm backward', 'add_rms_norm_backward', 4),
      ];
    },
  );

const losses = (): Case[] =>
  [...plotted.vocabularies.map((V) => [plotted.rows, V]), [16_416, 32_128]].map(([N, V]) => ({
    ...{ name: `cross entropy and its gradient ${N} x ${V}`, kernel: 'cross_entropy', type: 'bf16' },
    ...{ sizes: { N: N!, V: V! }, scalars: { labelSmoothing: 0, zLoss: 1e-4, scale: 1, writeGradient: 1 } },
    fill: { labels: ids(N!, V!).map((id, n) => (n % 16 === 5 ? IGNORED : id)) },
    bytes: 4 * N! * V!,
    peer: { kind: 'cross_entropy', rows: N!, vocabulary: V! },
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

/** Every case, in the order of the tables. */
export const gpuKernelCases = (): GpuCase[] =>
  [...streams(), ...norms(), ...losses(), ...embeddings(), ...optimizers()].map((c) => ({
    name: c.name,
    measure: async (backend, name) => {
      const milliseconds = await timed(backend, c);
      return measured(backend, name, milliseconds, { rate: c.bytes / milliseconds / 1e6, unit: 'GB/s' });
    },
    ...(c.peer && { peer: c.peer }),
  }));
