/**
 * How a CUDA device runs a kernel: a plan turns the sizes of one call into the launches that do it, in order. A plan is a
 * pure function beside its op (src/ops/NAME/NAME.cuda.ts), so that it can be tested without a device.
 */
import type { FloatType } from '../dtype.ts';

/** What a plan may look at. */
export interface CudaSite {
  /** The contract's letters and scalars. */
  sizes: Record<string, number>;
  scalars: Record<string, number>;
  type: FloatType;
  /** Whether an optional argument was given. */
  has(argument: string): boolean;
  device: CudaDevice;
}

/** What plans may know of a device. */
export interface CudaDevice {
  /** 80 for sm_80, 90 for sm_90. */
  arch: number;
  multiprocessors: number;
  /** Shared memory that one block may ask for, in bytes. */
  sharedBytes: number;
}

/** One launch of a kernel that NVRTC compiles for these constants. */
export interface CudaLaunch {
  /** Path under src/ops, for example "rms_norm/rms_norm.cu". */
  source: string;
  entry: string;
  /** Compile-time constants: head width, causality. The compute type COMPUTE_TYPE is always defined. */
  defines?: Record<string, number | string>;
  grid: readonly [x: number, y?: number, z?: number];
  /** Threads of a block. */
  block: number;
  /** Dynamic shared memory in bytes. */
  sharedBytes?: number;
  /** Whether the blocks wait for each other: all of them run at the same time, or the launch fails. */
  together?: boolean;
  /** Whether it may begin before the launch ahead of it has ended: it waits by itself (ahead.cuh). For sm_90 and newer. */
  ahead?: boolean;
  /**
   * Names of what the entry point takes: the contract's arguments and workspaces (pointers, null where absent), letters
   * (long long), scalars (float or int). The contract's whole order, then the workspaces, when left out.
   */
  arguments?: readonly (string | PartOf | BoxesOf)[];
}

/** A pointer into an argument or workspace, some bytes behind its beginning. */
export interface PartOf {
  of: string;
  bytes: number;
}

/**
 * An argument of two bytes an element as a matrix [rows, columns] from which Hopper's copy engine takes boxes of `box` rows and 64 columns,
 * zeros outside: a TensorMap of copies_sm90.cuh.
 */
export interface BoxesOf {
  boxesOf: string;
  rows: number;
  columns: number;
  box: number;
}

/** A matrix product by cublasLt: c = alpha a b + beta c, matrices row-major and named as arguments of the contract. */
export interface CudaGemm {
  gemm: {
    a: string;
    b: string;
    /** An argument, or a workspace, which is float32. */
    c: string;
    m: number;
    n: number;
    k: number;
    /** True where the stored matrix is the transpose: a is [k,m], b is [n,k]. */
    transposeA: boolean;
    transposeB: boolean;
    alpha: number;
    beta: number;
    /** float32 factors of float8 matrices: one for each of a's m rows, one for each of b's n columns. */
    scales?: { a: string; b: string };
    /** Several products in one launch: each one's matrices lie so many elements behind the last one's. */
    batch?: { count: number; a: number; b: number; c: number };
  };
}

/** The launches of one call, in order. */
export interface CudaProgram {
  /** Scratch memory of the call by name, in bytes; contents are undefined. */
  workspace?: Record<string, number>;
  launches: readonly (CudaLaunch | CudaGemm)[];
}

/** From a call's sizes to its launches; pure. */
export type CudaPlan = (site: CudaSite) => CudaProgram;
