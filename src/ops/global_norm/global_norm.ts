/**
 * global_norm, parameter_norms: the L2 norm of everything, and of each parameter, in flat memory.
 *
 *   norm = sqrt(sum_i x[i]^2)           norms[p] = sqrt(sum over p's chunks of x^2)
 *
 * x [N] is flat memory whose gaps are zero (src/tensor/parameters.ts), in the layout of gradients or values. Squares are
 * added in float32 within fixed chunks and in float64 over chunks: the same bits at any number of threads. `norm` and
 * `norms` are updates, not outputs: they lie where their readers expect them from step to step.
 *
 * Source: Pascanu et al. 2013, arXiv:1211.5063, for clipping by the norm; Shazeer & Stern 2018, arXiv:1804.04235,
 * section 8, for RMS(p) = norms[p] / sqrt(size).
 */
import { defineKernel } from '../../backend/kernel.ts';
import { run } from '../../tensor/autograd.ts';
import { CHUNK, testChunks } from '../../tensor/chunks.ts';
import { scope } from '../../tensor/scope.ts';
import type { Tensor } from '../../tensor/tensor.ts';
import { globalNormPlan, parameterNormsPlan } from './global_norm.cuda.ts';

export const globalNorm = defineKernel({
  name: 'global_norm',
  inputs: { x: '[N]' },
  updates: { norm: 'f32[1]' },
  outputs: { partial: 'f32[K]' },
  requires: { [`K = ceil(N / ${CHUNK})`]: ({ N, K }) => K === Math.ceil(N / CHUNK) },
  cases: [{ sizes: { N: 1, K: 1 } }, { sizes: { N: 1003, K: 1 } }, { sizes: { N: 100_000, K: 4 } }],
  reference({ x, partial, norm }, { N, K }) {
    for (let k = 0; k < K; k++) {
      partial[k] = 0;
      for (let i = k * CHUNK; i < Math.min(N, (k + 1) * CHUNK); i++) partial[k]! += x[i]! ** 2;
    }
    norm[0] = Math.sqrt(partial.reduce((a, b) => a + b, 0));
  },
  cuda: globalNormPlan,
});

export const parameterNorms = defineKernel({
  name: 'parameter_norms',
  inputs: { x: '[N]', chunks: 'i32[C,4]' },
  updates: { norms: 'f32[P]' },
  outputs: { partial: 'f32[C]' },
  cases: [{ sizes: { N: 64, C: 1, P: 1 } }, { sizes: { N: 6400, C: 7, P: 3 } }, { sizes: { N: 128_000, C: 4, P: 4 } }],
  fill: { chunks: (_, sizes, i) => testChunks(sizes)[i]! },
  reference({ x, chunks, partial, norms }, { C, P }) {
    const sums = new Float64Array(P);
    for (let c = 0; c < C; c++) {
      const [start, count, parameter] = chunks.subarray(4 * c, 4 * c + 3) as unknown as [number, number, number];
      partial[c] = 0;
      for (let i = 64 * start; i < 64 * start + count; i++) partial[c]! += x[i]! ** 2;
      sums[parameter]! += partial[c]!;
    }
    norms.set(sums.map(Math.sqrt));
  },
  cuda: parameterNormsPlan,
});

/** Writes the L2 norm of x into `norm` f32[1]; x is flat memory with zero gaps. @throws ShapeError */
export function writeGlobalNorm(x: Tensor, norm: Tensor): void {
  scope(() => void run(globalNorm, { x: x.view(x.length), norm }, { sizes: { K: Math.ceil(x.length / CHUNK) } }));
}

/** Writes the L2 norm of each parameter of a chunk table into `norms` f32[P]. @throws ShapeError */
export function writeParameterNorms(x: Tensor, chunks: Tensor, norms: Tensor): void {
  scope(() => void run(parameterNorms, { x, chunks, norms }));
}
