/** linear_float8 and its relations, CUDA: products by cublasLt, launches of float8_rows.cu and scale_float8.cu. */
import { BLOCK, blocksFor, WARP } from '../../backend/cuda/launch.ts';
import type { CudaGemm, CudaLaunch, CudaPlan, CudaSite } from '../../backend/cuda/plan.ts';

/** Ada, the first with tensor cores for float8. */
export const FLOAT8_ARCH = 89;
/** Types of what is not in float8. */
export const FLOAT8_BESIDE = ['f32', 'bf16'] as const;
/** What cublasLt wants of the sizes of float8 matrices. */
export const FLOAT8_MULTIPLE = 16;
/** Hopper, where cublasLt takes a factor per row and column, and launches may begin ahead. */
const SCALED_ARCH = 90;
/** Elements that a thread handles together, and the threads that a row should at most have. */
const EACH = 8;
const THREADS_OF_A_ROW = 512;

const rowsPlan =
  (entry: string, letter: 'I' | 'D' | 'F'): CudaPlan =>
  ({ sizes, device }) => {
    const WIDTH = sizes[letter]!;
    const pieces = Math.ceil(WIDTH / EACH / THREADS_OF_A_ROW);
    const THREADS = Math.ceil(WIDTH / EACH / pieces / WARP) * WARP;
    const launch: CudaLaunch = {
      source: 'linear_float8/float8_rows.cu',
      entry,
      defines: { WIDTH, EACH, THREADS },
      grid: [sizes.N!],
      block: THREADS,
      ahead: device.arch >= SCALED_ARCH,
    };
    return { launches: [launch] };
  };

export const quantiseFloat8Plan = rowsPlan('quantise_float8', 'I');
export const rmsNormFloat8Plan = rowsPlan('rms_norm_float8', 'D');
export const gatedFloat8Plan = rowsPlan('gated_float8', 'F');

/** Scales sums into y, which they may be. */
const scaling = (
  { sizes: { N, O }, device }: CudaSite,
  { alpha, beta, type: RESULT }: { alpha: number; beta: number; type: string },
  sums: string,
): CudaLaunch => ({
  source: 'linear_float8/scale_float8.cu',
  entry: 'scale_float8',
  defines: { RESULT, ALPHA: `${alpha}`, BETA: `${beta}` },
  grid: [blocksFor(N! * O!, EACH * BLOCK)],
  block: BLOCK,
  ahead: device.arch >= SCALED_ARCH,
  arguments: [sums, 'xScales', 'scales', 'y', 'N', 'O'],
});

const product = ({ sizes: { N, I, O } }: CudaSite) => ({
  ...{ a: 'x', transposeA: false, b: 'weight', transposeB: true },
  ...{ m: N!, n: O!, k: I! },
});

const scaled = (site: CudaSite, alpha: number, beta: number): CudaGemm => ({
  gemm: { ...product(site), c: 'y', alpha, beta, scales: { a: 'xScales', b: 'scales' } },
});

export const linearFloat8Plan: CudaPlan = (site) => {
  const alpha = site.scalars.alpha!;
  if (site.device.arch === SCALED_ARCH) return { launches: [scaled(site, alpha, 0)] };
  const sums: CudaGemm = { gemm: { ...product(site), c: 'y', alpha: 1, beta: 0 } };
  return { launches: [sums, scaling(site, { alpha, beta: 0, type: 'T' }, 'y')] };
};

export const linearFloat8AddPlan: CudaPlan = (site) => {
  const { alpha, beta } = site.scalars as { alpha: number; beta: number };
  if (site.device.arch === SCALED_ARCH) return { launches: [scaled(site, alpha, beta)] };
  const { N, O } = site.sizes;
  const sums: CudaGemm = { gemm: { ...product(site), c: 'sums', alpha: 1, beta: 0 } };
  return {
    workspace: { sums: 4 * N! * O! },
    launches: [sums, scaling(site, { alpha, beta, type: 'float' }, 'sums')],
  };
};

export const float8SumsPlan: CudaPlan = (site) => {
  const { N, I, G, O } = site.sizes;
  const batch = { count: G!, a: 0, b: O! * I!, c: N! * O! };
  return { launches: [{ gemm: { ...product(site), c: 'y', alpha: 1, beta: 0, batch } }] };
};
