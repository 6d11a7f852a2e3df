/** attention, CUDA: the launches that attention.cuda.ts chooses from; sizes agree with the sources they name. */
import { RUN } from '../../backend/cuda/launch.ts';
import type { CudaLaunch, CudaSite } from '../../backend/cuda/plan.ts';

/** PROBLEM_PARAMETERS of problem.cuh. */
const problem = [
  ...['q', 'k', 'v', 'bias', 'dense', 'querySegments', 'keySegments', 'queryPositions', 'keyPositions', 'rng'],
  ...['B', 'M', 'H', 'D', 'N', 'P', 'E', 'G', 'scale', 'causal', 'queryOffset', 'dropout', 'site'],
];
/** Largest P whose row of the bias lies in shared memory. */
const SHARED_BIAS = 2048;
/** Queries handled at once by attention_keys.cu and keys by attention_queries.cu: STRIP. */
const STRIP = 32;
export const WARP = 32;

export const ceil = (n: number, step: number): number => Math.ceil(n / step);
/** Floats that a warp's PassingDiagonals of diagonals.cuh takes for strips of `span` queries. */
const diagonals = (span: number, P: number): number => 8 * (span + 21) + P;
/** The same of a HeldDiagonals. */
function heldDiagonals({ sizes, scalars }: CudaSite, span: number): number {
  const places = scalars.causal ? Math.floor(sizes.P! / 2) + 1 : sizes.P!;
  return (Math.floor((places + span + 13) / 8) + span / 8 + 1) * 64 + 2;
}
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
/** The same and rows as Rows of mma.cuh pads them, or as Panels of wgmma.cuh. */
const sharedBytes = (site: CudaSite, parts: SharedParts): number =>
  parts.rows * (16 * ceil(site.sizes.D!, 16) + 8) * 2 + tileBytes(site, parts);
const panelBytes = (site: CudaSite, parts: SharedParts): number =>
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

/** Whether Hopper's own kernels, which want whole panels of 64 values, know the call beside those on tensor cores. */
export const onHopper = ({ sizes, device }: CudaSite): boolean => device.arch === 90 && sizes.D! % 64 === 0;

/** Constants of attention_forward_sm90.cu. */
export type HopperTune = { GROUPS: number; KEYS: number; STAGES: number; BLOCKS: number };

/** AGAIN: 1 for those queries only that streamLaunch lost. */
export function forwardHopperLaunch(site: CudaSite, tune: HopperTune, AGAIN: 0 | 1 = 0): CudaLaunch {
  const { B, H, M, N } = site.sizes as Record<string, number>;
  const { GROUPS, KEYS, STAGES } = tune;
  return {
    source: 'attention/attention_forward_sm90.cu',
    entry: 'attention_forward_sm90',
    defines: { ...options(site), ...tune, AGAIN },
    grid: [ceil(M!, 64 * GROUPS), H!, B!],
    block: 128 * GROUPS,
    sharedBytes: panelBytes(site, {
      rows: 64 * GROUPS + 2 * STAGES * KEYS,
      segments: STAGES * KEYS,
      margin: 16 + KEYS,
      tiles: ceil(N!, KEYS),
    }),
    arguments: [...problem, 'out', 'lse', ...(AGAIN ? ['lost'] : [])],
  };
}

/** Two warpgroups with queries and one that copies, one block to a multiprocessor. */
export function streamLaunch(site: CudaSite): CudaLaunch {
  const { B, H, M, N, D, P } = site.sizes as Record<string, number>;
  const { BIAS, SEGMENTS } = options(site);
  const [GROUPS, STAGES] = [2, 2];
  return {
    source: 'attention/attention_stream_sm90.cu',
    entry: 'attention_stream_sm90',
    defines: { ...options(site), GROUPS, STAGES, CONSUMER_REGISTERS: 208, FEEDER_REGISTERS: 88 },
    grid: [Math.min(B! * H! * ceil(M!, 64 * GROUPS), site.device.multiprocessors)],
    block: 128 * (GROUPS + 1),
    sharedBytes:
      (2 * 64 * GROUPS + 2 * STAGES * 128) * D! * 2 +
      2 * STAGES * 16 +
      (4 * STAGES + 2) * 8 +
      (BIAS === 1 ? P! + 1 + 2 * (16 + 128) : 0) * 4 +
      (SEGMENTS ? STAGES * 128 * 4 + ceil(N!, 128) * 8 : 0),
    arguments: [...problem, 'out', 'lse', 'lost'],
  };
}

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

export function keysHopperLaunch(site: CudaSite, tune: { GROUPS: number; STAGES: number; BLOCKS: number }): CudaLaunch {
  const { B, H, M, N, P } = site.sizes as Record<string, number>;
  const { GROUPS, STAGES } = tune;
  const BIAS_GRADIENT = site.has('dbias') ? 1 : 0;
  const shared = panelBytes(site, {
    rows: 2 * 64 * GROUPS + 2 * STAGES * 64,
    segments: site.has('querySegments') ? STAGES * 64 : 0,
    margin: 16 + 64,
    tiles: ceil(M!, 64),
  });
  return {
    source: 'attention/attention_keys_sm90.cu',
    entry: 'attention_keys_sm90',
    defines: { ...options(site), ...tune, BIAS_GRADIENT },
    grid: [ceil(N!, 64 * GROUPS), H!, B!],
    block: 128 * GROUPS,
    sharedBytes: shared + STAGES * 64 * 8 + BIAS_GRADIENT * 4 * GROUPS * diagonals(64, P!) * 4,
    arguments: [...problem, 'dout', 'rows', 'dk', 'dv', 'partial'],
  };
}

export function queriesHopperLaunch(
  site: CudaSite,
  tune: { GROUPS: number; STAGES: number; BLOCKS: number },
): CudaLaunch {
  const { B, H, M, N } = site.sizes as Record<string, number>;
  const { GROUPS, STAGES } = tune;
  return {
    source: 'attention/attention_queries_sm90.cu',
    entry: 'attention_queries_sm90',
    defines: { ...options(site), ...tune },
    grid: [ceil(M!, 64 * GROUPS), H!, B!],
    block: 128 * GROUPS,
    sharedBytes: panelBytes(site, {
      rows: 2 * 64 * GROUPS + 2 * STAGES * 64,
      segments: STAGES * 64,
      margin: 16 + 64,
      tiles: ceil(N!, 64),
    }),
    arguments: [...problem, 'dout', 'rows', 'dq'],
  };
}

/** Blocks that share out the rows of the batch, one head each, where one block runs on a multiprocessor. */
export const headsInTurn = ({ sizes, device }: CudaSite): number =>
  Math.min(sizes.B!, Math.max(1, Math.floor(device.multiprocessors / sizes.H!)));

/** Queries that attention_few_sm90.cu takes. */
export const FEW = 128;

/** dq, dk, dv and parts of dbias at once where queries are few. */
export function fewHopperLaunch(site: CudaSite, STAGES: number): CudaLaunch {
  const { H, N, P } = site.sizes as Record<string, number>;
  const BIAS_GRADIENT = site.has('dbias') ? 1 : 0;
  const slots = Math.min(8 * ceil(N!, 64), Math.floor((P! + 77) / 8) + 8) + 1;
  const rows = 4 * FEW + 2 * STAGES * 64 + 4 * FEW;
  const shared = panelBytes(site, { rows, segments: STAGES * 64, margin: 16 + 64, tiles: 0 });
  return {
    source: 'attention/attention_few_sm90.cu',
    entry: 'attention_few_sm90',
    defines: { ...options(site), STAGES, BIAS_GRADIENT },
    grid: [H!, headsInTurn(site)],
    block: 256,
    sharedBytes: shared + BIAS_GRADIENT * 8 * (slots * 64 + 2) * 4,
    arguments: [...problem, 'dout', 'out', 'lse', 'dq', 'dk', 'dv', 'partial'],
  };
}

/** The same for more queries, from what rowsLaunch found; `held`: HeldDiagonals. */
export function headsHopperLaunch(site: CudaSite, held: boolean): CudaLaunch {
  const { H, P } = site.sizes as Record<string, number>;
  const BIAS_GRADIENT = site.has('dbias') ? (held ? 1 : 2) : 0;
  const space = [0, heldDiagonals(site, 64), diagonals(64, P!)][BIAS_GRADIENT]!;
  const STAGES = 3;
  const shared = panelBytes(site, {
    rows: 3 * 128 + 2 * STAGES * 64 + 2 * 128,
    segments: site.has('querySegments') ? STAGES * 64 : 0,
    margin: 16 + 64,
    tiles: 0,
  });
  return {
    source: 'attention/attention_heads_sm90.cu',
    entry: 'attention_heads_sm90',
    defines: { ...options(site), STAGES, BIAS_GRADIENT },
    grid: [H!, headsInTurn(site)],
    block: 256,
    sharedBytes: shared + STAGES * 64 * 8 + 8 * space * 4,
    arguments: [...problem, 'dout', 'rows', 'dq', 'dk', 'dv', 'sums', 'partial'],
  };
}

/** One block per tile of a plane; its warps hold 16 queries each. */
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
