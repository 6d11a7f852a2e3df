/** adafactor, CUDA: how the kernels of adafactor.cu are launched. */
import { BLOCK, warpBlocks } from '../../backend/cuda/launch.ts';
import type { CudaPlan } from '../../backend/cuda/plan.ts';

const common = { source: 'adafactor/adafactor.cu', defines: { THREADS: BLOCK }, block: BLOCK };
const COLUMN_BLOCKS = 24; // of a parameter; they stride over its columns

export const adafactorMomentsPlan: CudaPlan = ({ sizes: { P, C } }) => ({
  launches: [
    {
      ...common,
      entry: 'adafactor_moments',
      grid: [C!],
      arguments: ['gradients', 'places', 'chunks', 'norm', 'hyper', 'moments', 'factors', 'columnSums'],
    },
    {
      ...common,
      entry: 'adafactor_factors',
      grid: [P!, 1 + COLUMN_BLOCKS],
      arguments: ['places', 'chunks', 'norm', 'hyper', 'columnSums', 'moments', 'factors', 'C'],
    },
  ],
});

export const adafactorPlan: CudaPlan = ({ sizes: { P, C } }) => ({
  launches: [
    {
      ...common,
      entry: 'adafactor_squares',
      grid: [C!],
      arguments: ['gradients', 'places', 'chunks', 'factors', 'norm', 'hyper', 'partial'],
    },
    {
      ...common,
      entry: 'adafactor_scale',
      grid: [warpBlocks(P!)],
      arguments: ['chunks', 'lengths', 'norms', 'norm', 'hyper', 'partial', 'scale', 'P', 'C'],
    },
    {
      ...common,
      entry: 'adafactor',
      grid: [C!],
      arguments: [
        ...['gradients', 'places', 'chunks', 'factors', 'lengths', 'decay', 'norms', 'norm', 'hyper', 'rng'],
        ...['values', 'compensation', 'master', 'scale'],
      ],
    },
  ],
});
