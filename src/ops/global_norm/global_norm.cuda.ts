/** global_norm, parameter_norms, CUDA: how the kernels of global_norm.cu are launched. */
import { BLOCK, warpBlocks } from '../../backend/cuda/launch.ts';
import type { CudaPlan } from '../../backend/cuda/plan.ts';

const source = 'global_norm/global_norm.cu';
const CHUNK_THREADS = 512;

export const globalNormPlan: CudaPlan = ({ sizes: { K } }) => ({
  launches: [
    { source, entry: 'global_norm_partial', grid: [K!], block: CHUNK_THREADS, arguments: ['x', 'partial', 'N'] },
    { source, entry: 'global_norm_total', grid: [1], block: 1024, arguments: ['partial', 'norm', 'K'] },
  ],
});

export const parameterNormsPlan: CudaPlan = ({ sizes: { C, P } }) => ({
  launches: [
    {
      source,
      entry: 'parameter_norms_partial',
      grid: [C!],
      block: CHUNK_THREADS,
      arguments: ['x', 'chunks', 'partial'],
    },
    {
      source,
      entry: 'parameter_norms_total',
      grid: [warpBlocks(P!)],
      block: BLOCK,
      arguments: ['partial', 'chunks', 'norms', 'C', 'P'],
    },
  ],
});
