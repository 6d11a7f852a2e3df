/** linear, CUDA: one cublasLt product each. Shapes: linear.ts. */
import type { CudaPlan } from '../../backend/cuda/plan.ts';

export const linearForwardPlan: CudaPlan = ({ sizes: { N, I, O }, scalars: { alpha } }) => ({
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
