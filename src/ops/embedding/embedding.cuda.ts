/** embedding, CUDA: how the kernels of embedding.cu are launched. */
import { BLOCK, blocksFor, RUN, WARP, warpBlocks } from '../../backend/cuda/launch.ts';
import type { CudaLaunch, CudaPlan } from '../../backend/cuda/plan.ts';

const source = 'embedding/embedding.cu';
const SORTED = 1024; // positions of a sorting block
const DIGIT_BITS = 8;
const PIECE = 32; // positions of a piece of the sums
const JOINERS = 16; // warps that add the parts of one run

export const embeddingForwardPlan: CudaPlan = ({ sizes: { N } }) => ({
  launches: [
    {
      source,
      entry: 'embedding_forward',
      defines: { SHIFT: 0, PIECE, EACH: RUN },
      grid: [warpBlocks(N!)],
      block: BLOCK,
    },
  ],
});

export const embeddingBackwardPlan: CudaPlan = ({ sizes, scalars: { beta } }) => {
  const [N, D, V] = [sizes.N!, sizes.D!, sizes.V!];
  const EACH = D % RUN === 0 ? RUN : 1;
  const blocks = blocksFor(N, SORTED);
  const pieces = blocksFor(N, PIECE);
  const defines = { SHIFT: 0, PIECE, EACH };
  const launches: CudaLaunch[] = [];
  let [keys, order, nextKeys, nextOrder] = ['keys', 'order', 'nextKeys', 'nextOrder'];
  const bits = Math.floor(Math.log2(Math.max(V, 1))) + 1; // of keys in [0, V], V for ids outside the table
  for (let SHIFT = 0; SHIFT < bits; SHIFT += DIGIT_BITS) {
    const pass = { source, defines: { ...defines, SHIFT }, grid: [blocks] as const, block: BLOCK };
    launches.push(
      { ...pass, entry: 'embedding_count', arguments: ['ids', keys, 'counts', 'touched', 'N', 'V'] },
      {
        ...pass,
        entry: 'embedding_scatter',
        arguments: ['ids', keys, order, 'counts', nextKeys, nextOrder, 'N', 'V'],
      },
    );
    [keys, order, nextKeys, nextOrder] = [nextKeys, nextOrder, keys, order];
  }
  const threads = Math.min(BLOCK, WARP * Math.ceil(D / (WARP * EACH)));
  launches.push(
    {
      source,
      entry: 'embedding_sum',
      defines,
      grid: [pieces, blocksFor(D, threads * EACH)],
      block: threads,
      arguments: ['dy', keys, order, 'dtable', 'heads', 'tails', 'touched', 'N', 'D', 'V', 'beta'],
    },
    {
      source,
      entry: 'embedding_join',
      defines,
      grid: [pieces, blocksFor(D, WARP * EACH)],
      block: WARP * JOINERS,
      arguments: [keys, 'heads', 'tails', 'dtable', 'N', 'D', 'V', 'beta'],
    },
  );
  if (beta !== 1)
    launches.push({
      source,
      entry: 'embedding_rest',
      defines,
      grid: [warpBlocks(V)],
      block: BLOCK,
      arguments: ['touched', 'dtable', 'D', 'V', 'beta'],
    });
  const list = 4 * N;
  return {
    workspace: {
      ...{ keys: list, order: list, nextKeys: list, nextOrder: list },
      counts: 4 * 2 ** DIGIT_BITS * blocks,
      touched: 4 * V,
      heads: 4 * pieces * D,
      tails: 4 * pieces * D,
    },
    launches,
  };
};
