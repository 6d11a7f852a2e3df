/** attention, CUDA: which kernels run a call. Tensor cores take 16-bit types; attention_any.cu takes the rest. */

import { WARP } from '../../backend/cuda/launch.ts';
import type { CudaLaunch, CudaPlan, CudaProgram, CudaSite } from '../../backend/cuda/plan.ts';
import { bytesOf } from '../../backend/dtype.ts';
import {
  anyLaunch,
  biasSumsLaunch,
  ceil,
  denseLaunch,
  firstThatFits,
  forwardLaunch,
  keysLaunch,
  onTensorCores,
  options,
  paddedRows,
  queriesLaunch,
  rowsLaunch,
  rowTiles,
} from './launches.cuda.ts';
import {
  FEW,
  fewHopperLaunch,
  forwardHopperLaunch,
  type HopperTune,
  headsHopperLaunch,
  headsInTurn,
  keysHopperLaunch,
  onHopper,
  queriesHopperLaunch,
  streamLaunch,
} from './launches_sm90.cuda.ts';

/** What ran fastest; `tiles` is 1 for few queries, which blocks of one warpgroup suit. */
function hopperTune(site: CudaSite, tiles: number): HopperTune {
  const light = !site.has('dense') && !options(site).DROPOUT; // the others' registers allow one block only
  if (site.sizes.D === 64) {
    if (!light) return { GROUPS: 3, KEYS: 64, STAGES: 4, BLOCKS: 1 };
    return tiles === 1 ? { GROUPS: 1, KEYS: 64, STAGES: 4, BLOCKS: 3 } : { GROUPS: 2, KEYS: 64, STAGES: 4, BLOCKS: 2 };
  }
  return { GROUPS: 2, KEYS: light ? 128 : 64, STAGES: 3, BLOCKS: 1 };
}

/** The forward pass at head width 128, and again what its shares' range did not do for. */
function streamOnHopper(site: CudaSite, tiles: number): CudaProgram | undefined {
  const { B, H, M, D } = site.sizes as Record<string, number>;
  const { CAUSAL, DENSE, DROPOUT } = options(site);
  if (!onTensorCores(site) || !onHopper(site) || D !== 128 || DENSE || DROPOUT) return undefined;
  if (CAUSAL && M! < 2048) return undefined; // its blocks' shares of the work differ
  const stream = streamLaunch(site);
  const again = forwardHopperLaunch(site, hopperTune(site, tiles), 1);
  if (!firstThatFits(site, [stream]) || !firstThatFits(site, [again])) return undefined;
  const lost = B! * H! * ceil(M!, 128) * 8 * 4; // a number for each warp of a block of 128 queries
  return { workspace: { lost }, launches: [stream, ...(site.type === 'bf16' ? [again] : [])] };
}

export const attentionForwardPlan: CudaPlan = (site) => {
  const { B, H, M } = site.sizes as Record<string, number>;
  const tiles = rowTiles(site);
  const stream = streamOnHopper(site, tiles);
  if (stream) return stream;
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

/** Whole heads to a block, one block to a multiprocessor, where Hopper's kernels know the call. */
function headsOnHopper(site: CudaSite): CudaProgram | undefined {
  const { B, H, M, N, D, P } = site.sizes as Record<string, number>;
  const { DENSE, DROPOUT, BIAS, SEGMENTS } = options(site);
  if (!onTensorCores(site) || !onHopper(site) || D !== 64 || DENSE || DROPOUT || BIAS === 2) return undefined;
  const used = (B! * H!) / (ceil(B!, headsInTurn(site)) * site.device.multiprocessors);
  if (used < 0.75 || N! <= 64) return undefined;
  const dbias = site.has('dbias');
  const partial = dbias ? headsInTurn(site) * H! * P! * 4 : 0;
  const biasSums = dbias ? [biasSumsLaunch(site, 0)] : [];
  if (M! <= FEW && (M! <= 64 || N! > 128)) {
    const stages = [4, 3].filter((n) => ceil(N!, 64) > n - 2); // copies of two heads' queries are under way at most
    const few = firstThatFits(
      site,
      stages.map((n) => fewHopperLaunch(site, n)),
    );
    if (few) return { workspace: { partial }, launches: [few, ...biasSums] };
  }
  if (M! <= 64 || M! > MOST || SEGMENTS === 2) return undefined;
  const heads = firstThatFits(site, [headsHopperLaunch(site, true), headsHopperLaunch(site, false)]);
  const sums = headsInTurn(site) * H! * ceil(M!, 64) * 64 * D! * 4;
  return (
    heads && {
      workspace: { rows: B! * H! * paddedRows(M!) * 8, sums, partial },
      launches: [rowsLaunch(site), heads, ...biasSums],
    }
  );
}
/** Queries of a head whose sums of dq, with those of a head on every other multiprocessor, stay in the second-level cache. */
const MOST = 1024;

/** What is known of the queries, dk, dv and parts of dbias, then dq, then ddense; how many keys each part of dbias is of. */
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
        launches: [rowsLaunch(site), keys, queries, ...(site.has('ddense') ? [dense] : [])],
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
      rowsLaunch(site),
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
  const { B, H, M, N, P } = site.sizes as Record<string, number>;
  const together = headsOnHopper(site);
  if (together) return together;
  const { launches, keysPerBlock } = backwardLaunches(site);
  const partial = site.has('dbias') ? B! * H! * ceil(N!, keysPerBlock) * P! * 4 : 0;
  const workspace = { rows: B! * H! * paddedRows(M!) * 8, partial };
  return { workspace, launches: [...launches, ...(site.has('dbias') ? [biasSumsLaunch(site, keysPerBlock)] : [])] };
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
