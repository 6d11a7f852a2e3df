/** Launches that many kernels share; sizes agree with kernel.cuh. */
import type { CudaPlan } from './plan.ts';

/** Elements that one thread handles: RUN of kernel.cuh. */
export const RUN = 8;
const BLOCK = 256;

/** Blocks for `count` pieces of work at `each` per block; at least one, so that a launch of nothing is legal. */
export const blocksFor = (count: number, each: number): number => Math.max(1, Math.ceil(count / each));

/** Threads for a row of D elements at RUN elements each: whole warps, at most `most`. */
export const threadsFor = (D: number, most: number): number =>
  Math.min(most, 32 * Math.max(1, Math.ceil(D / (32 * RUN))));

/** A kernel over flat elements, `forElements` of kernel.cuh; `letter` says how many there are. */
export const perElement =
  (source: string, entry: string, letter = 'N'): CudaPlan =>
  ({ sizes }) => ({
    launches: [{ source, entry, grid: [blocksFor(sizes[letter]!, RUN * BLOCK)], block: BLOCK }],
  });

/** A kernel with one block of `block` threads per row, the product of some letters. */
export const perRow =
  (source: string, entry: string, block: number, ...letters: string[]): CudaPlan =>
  ({ sizes }) => ({
    launches: [
      {
        source,
        entry,
        grid: [
          blocksFor(
            letters.reduce((n, l) => n * sizes[l]!, 1),
            1,
          ),
        ],
        block,
      },
    ],
  });
