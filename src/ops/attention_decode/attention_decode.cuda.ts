/** attention_decode and cache_append, CUDA: how the kernels are launched. */
import { blocksFor } from '../../backend/cuda/launch.ts';
import type { CudaPlan } from '../../backend/cuda/plan.ts';

/** Keys of a warp: CHUNK of attention_decode.cu. */
const CHUNK = 32;
/** Chunks up to which one block does a row and head, from the point where one multiprocessor's bandwidth tells. */
const MOST_CHUNKS = 64;
const WARP = 32;

const problem = ['q', 'keys', 'values', 'position', 'bias', 'keySegments', 'origins', 'out'];
const letters = ['R', 'H', 'D', 'B', 'C', 'P', 'scale'];

/** Warps of a block where there are more blocks than multiprocessors: some load while others compute. */
const FEW_WARPS = 4;

export const attentionDecodePlan: CudaPlan = ({ sizes, device }) => {
  const { R, H, D, C } = sizes as Record<string, number>;
  const chunks = blocksFor(C!, CHUNK);
  const source = 'attention_decode/attention_decode.cu';
  const resultBytes = (D! + 2) * 4;
  if (chunks <= MOST_CHUNKS) {
    const most = D! > 128 ? 8 : D! > 64 ? 16 : 20; // wider rows take more registers
    const many = R! * H! > device.multiprocessors;
    const WARPS = Math.min(chunks, many ? FEW_WARPS : most);
    const defines = { HEAD_WIDTH: D!, WARPS, RESIDENT: many ? Math.floor(Math.min(most, 16) / WARPS) : 1 };
    const sharedBytes = chunks * (resultBytes + 4);
    const [grid, block] = [[H!, R!] as const, WARPS * WARP];
    return {
      launches: [
        { source, entry: 'attention_decode', defines, grid, block, sharedBytes, arguments: [...problem, ...letters] },
      ],
    };
  }
  const WARPS = 8;
  const defines = { HEAD_WIDTH: D!, WARPS, RESIDENT: 1 };
  const shared = { source, defines, arguments: [...problem, ...letters, 'results'] };
  return {
    workspace: { results: R! * H! * chunks * resultBytes },
    launches: [
      { ...shared, entry: 'attention_decode_chunks', grid: [blocksFor(chunks, WARPS), H!, R!], block: WARPS * WARP },
      { ...shared, entry: 'attention_decode_merge', grid: [H!, R!], block: 128, sharedBytes: chunks * 4 },
    ],
  };
};

export const cacheAppendPlan: CudaPlan = ({ sizes }) => ({
  launches: [
    {
      source: 'attention_decode/cache_append.cu',
      entry: 'cache_append',
      grid: [blocksFor(sizes.R! * sizes.H! * sizes.D!, 256)],
      block: 256,
    },
  ],
});
