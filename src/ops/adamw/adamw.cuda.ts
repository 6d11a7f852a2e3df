/** adamw, CUDA: how the kernels of adamw.cu are launched. */
import { BLOCK } from '../../backend/cuda/launch.ts';
import type { CudaPlan } from '../../backend/cuda/plan.ts';

const SLICES = 4; // blocks that share a chunk
const given = ['gradients', 'chunks', 'lengths', 'decay', 'norms', 'norm', 'hyper', 'rng'];

export const adamwPlan =
  (entry: string): CudaPlan =>
  ({ sizes: { C } }) => ({
    launches: [
      {
        source: 'adamw/adamw.cu',
        entry,
        grid: [C!, SLICES],
        block: BLOCK,
        arguments: [...given, 'values', 'first', 'second', 'compensation', 'master'],
      },
    ],
  });
