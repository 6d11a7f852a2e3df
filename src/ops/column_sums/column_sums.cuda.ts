/** column_sums, CUDA: how the kernels of column_sums.cu are launched. */
import { BLOCK, blocksFor, WARP } from '../../backend/cuda/launch.ts';
import type { CudaPlan } from '../../backend/cuda/plan.ts';

export const columnSumsPlan: CudaPlan = ({ sizes: { N, D } }) => {
  let ROWS = 64; // of a partial sum; few values, since each is compiled
  while (N! > 1024 * ROWS) ROWS *= 2;
  const parts = blocksFor(N!, ROWS);
  const common = { source: 'column_sums/column_sums.cu', defines: { ROWS } };
  return {
    workspace: { partial: 4 * parts * D! },
    launches: [
      {
        ...common,
        entry: 'column_sums_partial',
        grid: [blocksFor(D!, WARP), parts],
        block: BLOCK,
        arguments: ['x', 'partial', 'N', 'D'],
      },
      {
        ...common,
        entry: 'column_sums_total',
        grid: [blocksFor(D!, WARP)],
        block: 1024,
        arguments: ['partial', 'sums', 'N', 'D', 'beta'],
      },
    ],
  };
};
