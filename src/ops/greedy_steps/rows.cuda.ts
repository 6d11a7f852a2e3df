/**
 * greedy_rows, CUDA: a step is some launches a layer. Norms, caches, activation and sums are parts of the products,
 * and each launch reads its weights while the one before still runs.
 */

import { blocksFor } from '../../backend/cuda/launch.ts';
import type { CudaLaunch, CudaPlan, CudaProgram } from '../../backend/cuda/plan.ts';
import type { FloatType } from '../../backend/dtype.ts';
import { PLACES, type StepSizes } from './greedy_steps.cuda.ts';

/** Outputs of a block, and its warps: OUT and WARPS of rows_product.cu. */
const OUT = 16;
const WARPS = 8;
/** Most groups of eight rows that a block takes. */
const MOST_TILES = 4;
/** Warps of a block of attention, and of a multiprocessor. */
const ATTENTION_WARPS = 4;
const RESIDENT_WARPS = 16;
/** Keys of a chunk of attention: CHUNK of attention_decode. */
const CHUNK = 32;
/** Bytes of an element: products are of 16-bit types. */
const BYTES = 2;
/** In `places`: the rows of Place in shapes.cuh. */
const place = { selfNorm: 0, qkv: 1, o: 4, crossNorm: 5, crossQ: 6, crossO: 7, feedNorm: 8, gate: 9, up: 10, down: 11 };

/** Rows at most of greedy_rows. */
export const MOST_ROWS = 64;
/** Tokens of a cache that a block of attention has room for. */
const MOST_KEYS = 2048;

/** Whether the kernels do a model's greedy steps. */
export const canStepRows = ({ R, M, H, D, S, C, hidden }: StepSizes, type: FloatType): boolean =>
  type === 'bf16' &&
  R <= MOST_ROWS &&
  Math.max(S, C) <= MOST_KEYS &&
  D <= 128 &&
  [M, H * D, hidden].every((n) => n % 32 === 0);

type Letters = Record<'R' | 'M' | 'H' | 'D' | 'L' | 'S' | 'C' | 'V', number>;

export const greedyRowsPlan: CudaPlan = ({ sizes, scalars, device }): CudaProgram => {
  const { R, M, H, D, L, S, C, V } = sizes as Letters;
  const { hidden, gated, kind, steps } = scalars as Record<'hidden' | 'gated' | 'kind' | 'steps', number>;
  const inner = H * D;
  const ahead = device.arch >= 90;
  const candidates = Math.min(blocksFor(V, OUT), device.multiprocessors);

  /** One product: `MATRICES` of [OUTPUTS, INPUTS] at PLACE, on rows that are normalised by NORM's weight. */
  const product = (
    entry: string,
    args: NonNullable<CudaLaunch['arguments']>,
    shape: {
      INPUTS: number;
      OUTPUTS: number;
      PLACE: number;
      NORM: number;
      blocks: number;
      MATRICES?: number;
      most?: number;
    },
  ): CudaLaunch => {
    const { blocks, MATRICES = 1, most = MOST_TILES, ...constants } = shape;
    const TILES = Math.min(most, Math.ceil(R / 8));
    return {
      source: 'greedy_steps/rows_product.cu',
      entry,
      defines: { ...constants, MATRICES, TILES, WARPS, GATED: gated, ACTIVATION: kind },
      grid: [blocks, Math.ceil(R / (8 * TILES))],
      block: WARPS * 32,
      ahead,
      arguments: args,
    };
  };
  const attention = (entry: string, keys: number, args: NonNullable<CudaLaunch['arguments']>): CudaLaunch => {
    const chunks = blocksFor(keys, CHUNK);
    const warps = Math.min(chunks, ATTENTION_WARPS);
    return {
      source: 'greedy_steps/rows_attention.cu',
      entry,
      defines: { HEAD_WIDTH: D, WARPS: warps, RESIDENT: D > 64 ? 1 : Math.floor(RESIDENT_WARPS / warps) },
      grid: [H, R],
      block: warps * 32,
      sharedBytes: chunks * (D + 3) * 4,
      ahead,
      arguments: args,
    };
  };
  const rows = (entry: string, args: readonly string[]): CudaLaunch => ({
    source: 'greedy_steps/rows_choose.cu',
    entry,
    defines: { CANDIDATES: candidates },
    grid: [R],
    block: 256,
    ahead,
    arguments: args,
  });

  const layer = (l: number): CudaLaunch[] => {
    const places = { of: 'places', bytes: l * PLACES * 4 };
    const cache = (of: string, length: number) => ({ of, bytes: l * R * length * inner * BYTES });
    const own = [cache('keys', C), cache('values', C)] as const;
    const source = [cache('crossKeys', S), cache('crossValues', S)] as const;
    const parameters = ['parameters', places] as const;
    const add = (from: string, INPUTS: number, PLACE: number) =>
      product('rows_add', [from, ...parameters, 'x', 'R'], {
        ...{ INPUTS, OUTPUTS: M, PLACE, NORM: -1, blocks: M / OUT, most: 2 },
      });
    return [
      product('rows_qkv', ['x', ...parameters, 'position', 'query', ...own, 'R', 'C', 'eps'], {
        ...{ INPUTS: M, OUTPUTS: inner, PLACE: place.qkv, NORM: place.selfNorm, blocks: (3 * inner) / OUT },
      }),
      attention('rows_self', C, ['query', ...own, 'position', 'bias', 'attended', 'R', 'H', 'C', 'P', 'scale']),
      add('attended', inner, place.o),
      product('rows_query', ['x', ...parameters, 'query', 'R', 'eps'], {
        ...{ INPUTS: M, OUTPUTS: inner, PLACE: place.crossQ, NORM: place.crossNorm, blocks: inner / OUT, most: 2 },
      }),
      attention('rows_cross', S, ['query', ...source, 'crossSegments', 'attended', 'R', 'H', 'S', 'scale']),
      add('attended', inner, place.crossO),
      product('rows_up', ['x', ...parameters, 'activated', 'R', 'eps'], {
        ...{ INPUTS: M, OUTPUTS: hidden, PLACE: gated ? place.gate : place.up, NORM: place.feedNorm },
        ...{ blocks: hidden / OUT, MATRICES: 1 + gated },
      }),
      add('activated', hidden, place.down),
    ];
  };
  const step = [
    ...Array.from({ length: L }, (_, l) => layer(l)).flat(),
    product('rows_logits', ['x', 'head', 'norm', 'best', 'R', 'V', 'alpha', 'eps'], {
      ...{ INPUTS: M, OUTPUTS: V, PLACE: -1, NORM: -1, blocks: candidates },
    }),
    rows('rows_choose', [
      ...['best', 'eos', 'token', 'ended', 'position', 'history', 'embedding', 'x', 'V', 'M', 'E', 'C', 'pad'],
    ]),
  ];
  return {
    workspace: {
      ...{ x: R * M * BYTES, query: R * inner * BYTES, attended: R * inner * BYTES, activated: R * hidden * BYTES },
      best: R * candidates * 8,
    },
    launches: [rows('rows_embed', ['embedding', 'token', 'x', 'V', 'M']), ...new Array(steps).fill(step).flat()],
  };
};
