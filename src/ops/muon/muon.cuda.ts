/** muon, CUDA: how the kernels of muon.cu are launched. */
import { BLOCK, blocksFor } from '../../backend/cuda/launch.ts';
import type { CudaPlan } from '../../backend/cuda/plan.ts';
import { CHUNK } from '../../tensor/chunks.ts';

const source = 'muon/muon.cu';
const SLICES = 4; // blocks that share a chunk

export const muonMomentumPlan: CudaPlan = ({ sizes: { K } }) => ({
  launches: [
    {
      source,
      entry: 'muon_momentum',
      grid: [K!], // a partial sum per chunk
      block: BLOCK,
      arguments: ['gradient', 'norm', 'hyper', 'momentum', 'direction', 'partial', 'N'],
    },
    {
      source,
      entry: 'muon_normalise',
      grid: [K!, SLICES],
      block: BLOCK,
      arguments: ['norm', 'partial', 'direction', 'N', 'K'],
    },
  ],
});

export const muonUpdatePlan: CudaPlan = ({ sizes: { N } }) => ({
  launches: [{ source, entry: 'muon_update', grid: [blocksFor(N!, CHUNK), SLICES], block: BLOCK }],
});
