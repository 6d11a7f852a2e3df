/** linear, CUDA: one cublasLt product each, of a group one batched product. Shapes: linear.ts. */
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

export const linearAddPlan: CudaPlan = ({ sizes: { N, I, O }, scalars: { alpha, beta } }) => ({
  launches: [
    {
      gemm: {
        ...{ a: 'x', transposeA: false, b: 'weight', transposeB: true, c: 'y' },
        ...{ m: N!, n: O!, k: I!, alpha: alpha!, beta: beta! },
      },
    },
  ],
});

export const linearGroupPlan: CudaPlan = ({ sizes: { N, I, G, O } }) => ({
  launches: [
    {
      gemm: {
        ...{ a: 'x', transposeA: false, b: 'weight', transposeB: true, c: 'y' },
        ...{ m: N!, n: O!, k: I!, alpha: 1, beta: 0 },
        batch: { count: G!, a: 0, b: O! * I!, c: N! * O! },
      },
    },
  ],
});
