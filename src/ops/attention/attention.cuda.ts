/** attention, CUDA: which kernels run a call. Tensor cores take 16-bit types; attention_any.cu takes the rest. */
import { bytesOf } from '../../backend/backend.ts';
import { RUN } from '../../backend/cuda/launch.ts';
import type { CudaLaunch, CudaPlan, CudaProgram, CudaSite } from '../../backend/cuda/plan.ts';
import {
  anyLaunch,
  ceil,
  denseLaunch,
  firstThatFits,
  forwardHopperLaunch,
  forwardLaunch,
  type HopperTune,
  keysHopperLaunch,
  keysLaunch,
  onHopper,
  onTensorCores,
  options,
  paddedRows,
  queriesHopperLaunch,
  queriesLaunch,
  rowTiles,
  WARP,
} from './launches.cuda.ts';

/** What ran fastest; `tiles` is 1 for few queries, which blocks of one warpgroup suit. */
function hopperTune(site: CudaSite, tiles: number): HopperTune {
  const light = !site.has('dense') && !options(site).DROPOUT; // the others' registers allow one block only
  if (site.sizes.D === 64) {
    if (!light) return { GROUPS: 3, KEYS: 64, STAGES: 4, BLOCKS: 1 };
    return tiles === 1 ? { GROUPS: 1, KEYS: 64, STAGES: 4, BLOCKS: 3 } : { GROUPS: 2, KEYS: 64, STAGES: 4, BLOCKS: 2 };
  }
  return { GROUPS: 2, KEYS: light ? 128 : 64, STAGES: 3, BLOCKS: 1 };
}

export const attentionForwardPlan: CudaPlan = (site) => {
  const { B, H, M } = site.sizes as Record<string, number>;
  const tiles = rowTiles(site);
  const fast = onTensorCores(site)
    ? firstThatFits(site, [
        ...(onHopper(site) ? [forwardHopperLaunch(site, hopperTune(site, tiles))] : []),
        forwardLaunch(site, tiles, 64),
        forwardLaunch(site, 1, 32),
      ])
    : undefined;
  return {
    launches: [
      fast ??
        anyLaunch(site, { entry: 'attention_any_forward', tiles: [2, 1], outputs: ['out', 'lse'] }, (tile) => [
          ceil(M!, tile),
          H!,
          B!,
        ]),
    ],
  };
};

/** Ways to launch attention_keys_sm90.cu, the fastest first, of those whose blocks fit beside each other. */
function keysOnHopper(site: CudaSite): CudaLaunch[] {
  const tunes = [4, 3].map((STAGES) => ({ GROUPS: 1, STAGES, BLOCKS: 2 }));
  const wide = [{ GROUPS: 2, STAGES: 3, BLOCKS: 1 }];
  // Each block takes 1 KiB more than it asks for.
  const room = site.device.sharedBytes + 1024;
  return (site.sizes.D === 64 ? tunes : wide)
    .map((tune) => ({ tune, launch: keysHopperLaunch(site, tune) }))
    .filter(({ tune, launch }) => tune.BLOCKS * (launch.sharedBytes! + 1024) <= room)
    .map(({ launch }) => launch);
}

/** dk, dv and parts of dbias first, then dq, then ddense; how many keys each part of dbias is of. */
function backwardLaunches(site: CudaSite): { launches: CudaLaunch[]; keysPerBlock: number } {
  const { B, H, M, N, D, E, G } = site.sizes as Record<string, number>;
  if (onTensorCores(site)) {
    const wide = D! > 64;
    const keys = firstThatFits(site, [
      ...(onHopper(site) ? keysOnHopper(site) : []),
      keysLaunch(site, 4, 64),
      keysLaunch(site, 4, 32),
    ]);
    const queries = firstThatFits(site, [
      ...(onHopper(site)
        ? [queriesHopperLaunch(site, wide ? { GROUPS: 2, STAGES: 4, BLOCKS: 1 } : { GROUPS: 1, STAGES: 4, BLOCKS: 2 })]
        : []),
      queriesLaunch(site, rowTiles(site), 64),
      queriesLaunch(site, 1, 32),
    ]);
    const dense = firstThatFits(site, [denseLaunch(site)]);
    if (keys && queries && dense)
      return {
        launches: [keys, queries, ...(site.has('ddense') ? [dense] : [])],
        keysPerBlock: (keys.block / WARP) * 16,
      };
  }
  const shared = ['dout', 'rows'];
  const keys = { entry: 'attention_any_keys', outputs: [...shared, 'dk', 'dv', 'partial'] };
  const queries = { entry: 'attention_any_queries', outputs: [...shared, 'dq'] };
  const dense = { entry: 'attention_any_dense', outputs: [...shared, 'ddense'] };
  const first = anyLaunch(site, { ...keys, tiles: [4, 2] }, (tile) => [ceil(N!, tile), H!, B!]);
  return {
    launches: [
      first,
      anyLaunch(site, { ...queries, tiles: [4, 1] }, (tile) => [ceil(M!, tile), H!, B!]),
      ...(site.has('ddense')
        ? [anyLaunch(site, { ...dense, tiles: [4, 0] }, (tile) => [ceil(N!, tile), ceil(M!, tile), E! * G!])]
        : []),
    ],
    keysPerBlock: Number(first.defines!.TILE),
  };
}

export const attentionBackwardPlan: CudaPlan = (site): CudaProgram => {
  const { B, H, M, N, D, P } = site.sizes as Record<string, number>;
  const { launches, keysPerBlock } = backwardLaunches(site);
  const ROW_LANES = Math.min(WARP, 2 ** Math.ceil(Math.log2(ceil(D!, RUN))));
  const rows: CudaLaunch = {
    source: 'attention/attention_rows.cu',
    entry: 'attention_rows',
    defines: { ROW_LANES },
    grid: [ceil(H! * paddedRows(M!), 256 / ROW_LANES), B!],
    block: 256,
    arguments: ['dout', 'out', 'lse', 'B', 'M', 'H', 'D', 'rows'],
  };
  const partial = site.has('dbias') ? B! * H! * ceil(N!, keysPerBlock) * P! * 4 : 0;
  const workspace = { rows: B! * H! * paddedRows(M!) * 8, partial };
  const sums: CudaLaunch = {
    source: 'attention/attention_rows.cu',
    entry: 'attention_bias_sums',
    defines: { ROW_LANES, KEYS: keysPerBlock },
    grid: [ceil(P!, WARP), H!],
    block: 1024,
    arguments: ['partial', 'dbias', 'B', 'H', 'N', 'P'],
  };
  return { workspace, launches: [rows, ...launches, ...(site.has('dbias') ? [sums] : [])] };
};

/** A plan where queries, keys and values are parts of rows: attention_packed.ts. */
export const packed =
  (plan: CudaPlan): CudaPlan =>
  (site) => {
    const { H, D, Q, R } = site.sizes as Record<string, number>;
    const part = (of: string, at: number) => ({ of, bytes: at * H! * D! * bytesOf[site.type] });
    const places: Record<string, ReturnType<typeof part>> = {
      ...{ k: part('kv', R! - 2), v: part('kv', R! - 1) },
      ...{ dk: part('dkv', R! - 2), dv: part('dkv', R! - 1) },
    };
    const { workspace, launches } = plan(site);
    return {
      ...(workspace && { workspace }),
      launches: (launches as readonly CudaLaunch[]).map((launch) => ({
        ...launch,
        defines: { ...launch.defines, QUERY_PARTS: Q!, KEY_PARTS: R! },
        arguments: launch.arguments!.map((name) => places[name as string] ?? name),
      })),
    };
  };
