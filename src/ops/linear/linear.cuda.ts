/** linear, CUDA: one cublasLt product each; a few rows, as in decoding, by a kernel that only reads the weights. */
import { RUN, WARP } from '../../backend/cuda/launch.ts';
import type { CudaLaunch, CudaPlan, CudaSite } from '../../backend/cuda/plan.ts';

/** Rows up to which reading the weights is all the time there is. */
const FEW_ROWS = 8;
const WARPS = 4;
/** From this many outputs on a warp makes two, since there are enough warps. */
const MANY_OUTPUTS = 4096;

/** `linear_rows` for N rows of I inputs, where its 16-byte loads are whole. */
function fewRows({ sizes: { N, I, O } }: CudaSite): CudaLaunch | undefined {
  if (N! > FEW_ROWS || I! % RUN !== 0) return undefined;
  const outputs = O! < MANY_OUTPUTS ? 1 : 2;
  return {
    source: 'linear/linear_rows.cu',
    entry: 'linear_rows',
    defines: { ROWS: N!, INPUTS: I!, OUTPUTS: outputs },
    grid: [Math.ceil(O! / (WARPS * outputs))],
    block: WARPS * WARP,
    arguments: ['x', 'weight', 'y', 'O', 'alpha'],
  };
}

export const linearForwardPlan: CudaPlan = (site) => {
  const rows = fewRows(site);
  return rows ? { launches: [rows] } : product(site);
};

const product: CudaPlan = ({ sizes: { N, I, O }, scalars: { alpha } }) => ({
  launches: [
    {
      gemm: {
        ...{ a: 'x', transposeA: false, b: 'weight', transposeB: true, c: 'y' },
        ...{ m: N!, n: O!, k: I!, alpha: alpha!, beta: 0 },
      },
    },
  ],
});

export const linearBackwardInputPlan: CudaPlan = ({ sizes: { N, I, O }, scalars: { alpha, beta } }) => ({
  launches: [
    {
      gemm: {
        ...{ a: 'dy', transposeA: false, b: 'weight', transposeB: false, c: 'dx' },
        ...{ m: N!, n: I!, k: O!, alpha: alpha!, beta: beta! },
      },
    },
  ],
});

export const linearBackwardWeightPlan: CudaPlan = ({ sizes: { N, I, O }, scalars: { alpha, beta } }) => ({
  launches: [
    {
      gemm: {
        ...{ a: 'dy', transposeA: true, b: 'x', transposeB: false, c: 'dweight' },
        ...{ m: O!, n: I!, k: N!, alpha: alpha!, beta: beta! },
      },
    },
  ],
});
