/** attention, CUDA: the launches that attention.cuda.ts chooses from; sizes agree with the sources they name. */
import { RUN, WARP } from '../../backend/cuda/launch.ts';
import type { CudaLaunch, CudaSite } from '../../backend/cuda/plan.ts';

/** PROBLEM_PARAMETERS of problem.cuh. */
export const problem = [
  ...['q', 'k', 'v', 'bias', 'dense', 'querySegments', 'keySegments', 'queryPositions', 'keyPositions', 'rng'],
  ...['B', 'M', 'H', 'D', 'N', 'P', 'E', 'G', 'scale', 'causal', 'queryOffset', 'dropout', 'site'],
];
/** Largest P whose row of the bias lies in shared memory. */
const SHARED_BIAS = 2048;
/** Queries handled at once by attention_keys.cu and keys by attention_queries.cu: STRIP. */
const STRIP = 32;

/** n / step, rounded up. */
export const ceil = (n: number, step: number): number => Math.ceil(n / step);
/** Floats that a warp's PassingDiagonals of diagonals.cuh takes for strips of `span` queries. */
export const diagonals = (span: number, P: number): number => 8 * (span + 21) + P;
/** Queries of a head in the workspace `rows`, whole blocks of 128. */
export const paddedRows = (M: number): number => 128 * ceil(M, 128);

/** Whether the kernels on tensor cores know the call. */
export const onTensorCores = ({ sizes, scalars, type, has, device }: CudaSite): boolean =>
  type !== 'f32' &&
  device.arch >= 80 &&
  sizes.D! % 8 === 0 &&
  sizes.D! <= 128 &&
  scalars.scale! > 0 &&
  !has('queryPositions') &&
  !has('keyPositions');

/** Constants of tile.cuh. */
export const options = ({ sizes, scalars, has }: CudaSite) => ({
  HEAD_WIDTH: sizes.D!,
  CAUSAL: scalars.causal ? 1 : 0,
  BIAS: has('bias') ? (sizes.P! <= SHARED_BIAS ? 1 : 2) : 0,
  DENSE: has('dense') ? 1 : 0,
  DROPOUT: has('rng') && scalars.dropout! > 0 ? 1 : 0,
  SEGMENTS: has('keySegments') ? (has('querySegments') ? 2 : 1) : 0,
});

interface SharedParts {
  /** Rows of D 16-bit values. */
  rows: number;
  segments: number;
  /** Of a BiasRow. */
  margin: number;
  tiles: number;
}

/** Shared memory in bytes for what tile.cuh keeps. */
function tileBytes(site: CudaSite, { segments, margin, tiles }: SharedParts): number {
  const { BIAS, SEGMENTS } = options(site);
  return (SEGMENTS ? segments * 4 + tiles : 0) + (BIAS === 1 ? (site.sizes.P! + 2 * margin) * 4 : 0);
}
/** Shared memory in bytes where rows lie as Rows of mma.cuh pads them. */
const sharedBytes = (site: CudaSite, parts: SharedParts): number =>
  parts.rows * (16 * ceil(site.sizes.D!, 16) + 8) * 2 + tileBytes(site, parts);
/** Shared memory in bytes where rows lie as Panels of wgmma.cuh. */
export const panelBytes = (site: CudaSite, parts: SharedParts): number =>
  parts.rows * site.sizes.D! * 2 + tileBytes(site, parts);

/** The first of some ways to launch a kernel that the device's shared memory allows. */
export const firstThatFits = (site: CudaSite, launches: CudaLaunch[]): CudaLaunch | undefined =>
  launches.find(({ sharedBytes = 0 }) => sharedBytes <= site.device.sharedBytes);

/** Groups of 16 queries of a warp, four warps to a block: two save memory traffic, one fills small problems. */
export function rowTiles(site: CudaSite): number {
  const { sizes, device } = site;
  const { B, H, M } = sizes as Record<string, number>;
  return site.has('dense') || M! <= 64 || ceil(M!, 128) * B! * H! < device.multiprocessors ? 1 : 2;
}

/** What the backward kernels know of each query. */
export function rowsLaunch({ sizes }: CudaSite): CudaLaunch {
  const { B, H, M, D } = sizes as Record<string, number>;
  const ROW_LANES = Math.min(WARP, 2 ** Math.ceil(Math.log2(ceil(D!, RUN))));
  return {
    source: 'attention/attention_rows.cu',
    entry: 'attention_rows',
    defines: { ROW_LANES },
    grid: [ceil(H! * paddedRows(M!), 256 / ROW_LANES), B!],
    block: 256,
    arguments: ['dout', 'out', 'lse', 'B', 'M', 'H', 'D', 'rows'],
  };
}

/** dbias from its parts, each of KEYS keys, or, KEYS being 0, of a head of several rows of the batch. */
export const biasSumsLaunch = ({ sizes, device }: CudaSite, KEYS: number): CudaLaunch => ({
  source: 'attention/attention_rows.cu',
  entry: 'attention_bias_sums',
  defines: { KEYS, MULTIPROCESSORS: device.multiprocessors },
  grid: [ceil(sizes.P!, WARP), sizes.H!],
  block: 1024,
  arguments: ['partial', 'dbias', 'B', 'H', 'N', 'P'],
});

/** The forward pass by attention_forward.cu, for 64 ROW_TILES queries a block and KEYS keys at a time. */
export function forwardLaunch(site: CudaSite, ROW_TILES: number, KEYS: number): CudaLaunch {
  const { B, H, M, N } = site.sizes as Record<string, number>;
  const queries = 64 * ROW_TILES;
  return {
    source: 'attention/attention_forward.cu',
    entry: 'attention_forward',
    defines: { ...options(site), ROW_TILES, KEYS },
    grid: [ceil(M!, queries), H!, B!],
    block: 128,
    sharedBytes: sharedBytes(site, {
      rows: queries + 4 * KEYS,
      segments: 2 * KEYS,
      margin: 16 * ROW_TILES + KEYS,
      tiles: ceil(N!, KEYS),
    }),
    arguments: [...problem, 'out', 'lse'],
  };
}

/** dk, dv and the bias's gradient by attention_keys.cu, for 16 WARPS keys a block and QUERIES queries at a time. */
export function keysLaunch(site: CudaSite, WARPS: number, QUERIES: number): CudaLaunch {
  const { B, H, M, N, P } = site.sizes as Record<string, number>;
  const keys = 16 * WARPS;
  const BIAS_GRADIENT = site.has('dbias') ? 1 : 0;
  const shared = sharedBytes(site, {
    rows: 2 * keys + 4 * QUERIES,
    segments: site.has('querySegments') ? 2 * QUERIES : 0,
    margin: 16 + STRIP,
    tiles: ceil(M!, QUERIES),
  });
  return {
    source: 'attention/attention_keys.cu',
    entry: 'attention_keys',
    defines: { ...options(site), WARPS, QUERIES, BIAS_GRADIENT },
    grid: [ceil(N!, keys), H!, B!],
    block: WARPS * WARP,
    sharedBytes: shared + 2 * QUERIES * 8 + BIAS_GRADIENT * WARPS * diagonals(STRIP, P!) * 4,
    arguments: [...problem, 'dout', 'rows', 'dk', 'dv', 'partial'],
  };
}

/** dq by attention_queries.cu, for 64 ROW_TILES queries a block and KEYS keys at a time. */
export function queriesLaunch(site: CudaSite, ROW_TILES: number, KEYS: number): CudaLaunch {
  const { B, H, M, N } = site.sizes as Record<string, number>;
  const queries = 64 * ROW_TILES;
  return {
    source: 'attention/attention_queries.cu',
    entry: 'attention_queries',
    defines: { ...options(site), ROW_TILES, KEYS },
    grid: [ceil(M!, queries), H!, B!],
    block: 128,
    sharedBytes: sharedBytes(site, {
      rows: 2 * queries + 4 * KEYS,
      segments: 2 * KEYS,
      margin: 16 * ROW_TILES + STRIP,
      tiles: ceil(N!, KEYS),
    }),
    arguments: [...problem, 'dout', 'rows', 'dq'],
  };
}

/** ddense by attention_queries.cu: one block per tile of a plane; its warps hold 16 queries each. */
export function denseLaunch(site: CudaSite): CudaLaunch {
  const { M, N, E, G } = site.sizes as Record<string, number>;
  return {
    ...queriesLaunch(site, 1, 64),
    entry: 'attention_dense',
    grid: [ceil(N!, 64), ceil(M!, 64), E! * G!],
    sharedBytes: sharedBytes(site, { rows: 2 * 64 + 2 * 64, segments: 64, margin: 16 + STRIP, tiles: 0 }),
    arguments: [...problem, 'dout', 'rows', 'ddense'],
  };
}

/** A launch of attention_any.cu; `tiles` of rows and of scores lie in shared memory. */
export function anyLaunch(
  site: CudaSite,
  what: { entry: string; tiles: [rows: number, scores: number]; outputs: string[] },
  grid: (tile: number) => CudaLaunch['grid'],
): CudaLaunch {
  const [rows, scores] = what.tiles;
  const width = 64 * ceil(site.sizes.D!, 64) + 4;
  const launch = (TILE: number): CudaLaunch => ({
    source: 'attention/attention_any.cu',
    entry: what.entry,
    defines: { HEAD_WIDTH: site.sizes.D!, TILE, BIAS_GRADIENT: site.has('dbias') ? 1 : 0 },
    grid: grid(TILE),
    block: 256,
    sharedBytes: (rows * TILE * width + scores * TILE * (TILE + 1)) * 4,
    arguments: [...problem, ...what.outputs],
  });
  return firstThatFits(site, [launch(32)]) ?? launch(16);
}
