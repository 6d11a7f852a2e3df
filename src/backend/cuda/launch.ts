/** Sizes of launches that many kernels share; RUN agrees with kernel.cuh. */
import type { CudaPlan } from './plan.ts';

/** Elements that one thread handles together. */
export const RUN = 8;
/** Threads of a block where nothing speaks for another number. */
export const BLOCK = 256;
/** Threads of a warp. */
export const WARP = 32;
const WARPS = BLOCK / WARP;

/** Blocks for `count` pieces of work at `each` per block; at least one, so that a launch for nothing is legal. */
export const blocksFor = (count: number, each: number): number => Math.max(1, Math.ceil(count / each));

/** Blocks of BLOCK threads for `count` pieces of work at a warp each. */
export const warpBlocks = (count: number): number => blocksFor(count, WARPS);

/** A kernel over flat elements, `forElements` of kernel.cuh; the product of some letters says how many there are. */
export const perElement =
  (source: string, entry: string, ...letters: string[]): CudaPlan =>
  ({ sizes }) => {
    const count = (letters.length > 0 ? letters : ['N']).reduce((n, letter) => n * sizes[letter]!, 1);
    return { launches: [{ source, entry, grid: [blocksFor(count, RUN * BLOCK)], block: BLOCK }] };
  };
