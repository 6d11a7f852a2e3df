/** Puts the CUDA backend together from what this machine has, and says what is missing. */
import { BackendError } from '../../util/errors.ts';
import { Blas, blasVersion, GEMM_WORKSPACE_BYTES } from './cublas.ts';
import { CudaBackend } from './cuda.ts';
import { type Driver, openDriver, versionText } from './driver.ts';
import { openEnergyCounter } from './energy.ts';
import { findHeaders, findLibrary } from './libraries.ts';
import { Compiler, nvrtcVersion } from './nvrtc.ts';

/** First compute capability with bfloat16 and cp.async. */
const OLDEST_ARCH = 80;
const REMEDY =
  'expected in the loader path, a CUDA toolkit, or the wheels nvidia-cuda-nvrtc, nvidia-cuda-runtime and nvidia-cublas; ' +
  'FAT5_CUDA_PATH names another folder';

let driver: Driver | undefined;
let backend: CudaBackend | undefined;

/** The CUDA backend, one per process. @throws BackendError, one line, naming what is missing */
export function openCuda(): CudaBackend {
  if (backend) return backend;
  driver ??= openDriver();
  const { device } = driver;
  if (device.arch < OLDEST_ARCH)
    throw new BackendError(
      `cuda: ${device.name} has compute capability ${(device.arch / 10).toFixed(1)}, expected ${(OLDEST_ARCH / 10).toFixed(1)} or newer (Ampere)`,
    );
  const nvrtc = findLibrary('nvrtc');
  const cublas = findLibrary('cublasLt');
  const headers = findHeaders();
  const missing = [
    ...(nvrtc ? [] : ['libnvrtc']),
    ...(cublas ? [] : ['libcublasLt']),
    ...(headers ? [] : ['cuda_bf16.h']),
  ];
  if (!nvrtc || !cublas || !headers)
    throw new BackendError(`cuda: ${device.name} is there, but not ${missing.join(', ')}, ${REMEDY}`);
  const opened = driver;
  backend = new CudaBackend({
    driver,
    compiler: new Compiler(nvrtc.calls, headers, device.arch),
    blas: (allocate) =>
      new Blas(opened, cublas.calls, allocate(GEMM_WORKSPACE_BYTES), { tf32: process.env.FAT5_TF32 === '1' }),
    energy: openEnergyCounter,
  });
  return backend;
}

/** Whether there is a GPU to speak of, whatever else is missing. */
export function hasGpu(): boolean {
  try {
    driver ??= openDriver();
    return true;
  } catch (error) {
    if (error instanceof BackendError) return false;
    throw error;
  }
}

/** What a GPU needs and where it was found: rows of a label and a text. */
export function cudaReport(): [string, string][] {
  try {
    driver ??= openDriver();
  } catch (error) {
    if (error instanceof BackendError) return [['gpu', error.message]];
    throw error;
  }
  const { name, arch, totalBytes, multiprocessors, driverVersion } = driver.device;
  const nvrtc = findLibrary('nvrtc');
  const cublas = findLibrary('cublasLt');
  return [
    [
      'gpu',
      `${name}, compute capability ${(arch / 10).toFixed(1)}, ${multiprocessors} multiprocessors, ${(totalBytes / 2 ** 30).toFixed(1)} GiB`,
    ],
    ['gpu driver', `supports CUDA ${versionText(driverVersion)}`],
    ['nvrtc', nvrtc ? `${versionText(nvrtcVersion(nvrtc.calls))}, ${nvrtc.path}` : `missing, ${REMEDY}`],
    ['cuda headers', findHeaders() ?? `missing (cuda_bf16.h), ${REMEDY}`],
    ['cublasLt', cublas ? `${cublasText(blasVersion(cublas.calls))}, ${cublas.path}` : `missing, ${REMEDY}`],
  ];
}

const cublasText = (version: number) =>
  `${Math.floor(version / 10000)}.${Math.floor((version % 10000) / 100)}.${version % 100}`;
