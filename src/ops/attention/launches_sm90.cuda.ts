/** attention, CUDA: the launches of Hopper's own kernels; sizes agree with the sources they name. */
import type { CudaLaunch, CudaSite } from '../../backend/cuda/plan.ts';
import { ceil, diagonals, options, panelBytes, problem } from './launches.cuda.ts';

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

/** Floats that a warp's HeldDiagonals of diagonals.cuh takes for strips of `span` queries. */
function heldDiagonals({ sizes, scalars }: CudaSite, span: number): number {
  const places = scalars.causal ? Math.floor(sizes.P! / 2) + 1 : sizes.P!;
  return (Math.floor((places + span + 13) / 8) + span / 8 + 1) * 64 + 2;
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

/** dk, dv and the bias's gradient by attention_keys_sm90.cu, for 64 GROUPS keys a block. */
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

/** dq by attention_queries_sm90.cu, for 64 GROUPS queries a block. */
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
