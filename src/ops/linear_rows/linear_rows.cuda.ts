/** linear_rows, CUDA: a few rows by a kernel that reads the weights once, more by one cublasLt product per weight. */
import { RUN, WARP } from '../../backend/cuda/launch.ts';
import type { CudaGemm, CudaPlan } from '../../backend/cuda/plan.ts';

/** Rows up to which reading the weights is all the time there is. */
const FEW_ROWS = 8;
const WARPS = 4;
/** From this many outputs on a warp makes two, since there are enough warps. */
const MANY_OUTPUTS = 8192;

export const linearRowsPlan: CudaPlan = ({ sizes: { N, I, O, P, Q }, scalars: { alpha }, has }) => {
  if (N! > FEW_ROWS || I! % RUN !== 0) {
    const product = (b: string, c: string, n: number): CudaGemm => ({
      gemm: { a: 'x', transposeA: false, b, transposeB: true, c, m: N!, n, k: I!, alpha: alpha!, beta: 0 },
    });
    return {
      launches: [
        product('first', 'y1', O!),
        ...(has('second') ? [product('second', 'y2', P!)] : []),
        ...(has('third') ? [product('third', 'y3', Q!)] : []),
      ],
    };
  }
  const outputs = O! + P! + Q! < MANY_OUTPUTS ? 1 : 2;
  const warps = [O!, P!, Q!].reduce((sum, n) => sum + Math.ceil(n / outputs), 0);
  return {
    launches: [
      {
        source: 'linear_rows/linear_rows.cu',
        entry: 'linear_rows',
        defines: { ROWS: N!, INPUTS: I!, OUTPUTS: outputs },
        grid: [Math.ceil(warps / WARPS)],
        block: WARPS * WARP,
        arguments: ['x', 'first', 'second', 'third', 'y1', 'y2', 'y3', 'O', 'P', 'Q', 'alpha'],
      },
    ],
  };
};
