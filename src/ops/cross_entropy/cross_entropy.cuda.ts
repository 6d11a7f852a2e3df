/** cross_entropy, CUDA: how the kernel of cross_entropy.cu is launched. */

import type { CudaPlan } from '../../backend/cuda/plan.ts';
import { bytesOf } from '../../backend/dtype.ts';

/** Of the shared memory that a block may ask for, what the kernel needs beside the row. */
const RESERVED = 1024;
const THREADS = 512;

export const crossEntropyPlan: CudaPlan = ({ sizes: { N, V }, type, device }) => {
  const rowBytes = Math.ceil((V! * bytesOf[type]) / 16) * 16;
  const isStaged = rowBytes + RESERVED <= device.sharedBytes;
  return {
    launches: [
      {
        source: 'cross_entropy/cross_entropy.cu',
        entry: 'cross_entropy',
        defines: { THREADS, STAGED: isStaged ? 1 : 0 },
        grid: [N!],
        block: THREADS,
        sharedBytes: isStaged ? rowBytes : 0,
      },
    ],
  };
};
