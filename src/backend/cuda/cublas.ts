/**
 * Matrix products by cublasLt. For each shape the candidates that cublasLt proposes are timed once on this device; the best is
 * kept on disk, so that later processes compute the same bits.
 */
import { createHash } from 'node:crypto';
import { readCached, writeCached } from '../../util/cache.ts';
import { BackendError } from '../../util/errors.ts';
import type { NativeFunction, NativeLibrary } from '../../util/native.ts';
import { bytesOf, type DType } from '../dtype.ts';
import type { Driver } from './driver.ts';
import type { PreparedGemm } from './program.ts';

/** Scratch memory that an algorithm may use. */
export const GEMM_WORKSPACE_BYTES = 64 << 20;
const CANDIDATES = 16;
/** The candidates that were fastest in one run take turns in so many rounds. */
const FINALISTS = 6;
const ROUNDS = 5;
/** Written before a timed run, so that matrices come from memory as they do in a model: more than L2 caches hold. */
const FLUSH_BYTES = 128 << 20;

const cudaTypes: Record<DType, number> = { f32: 0, f16: 2, bf16: 14, f8: 28, i32: 10, i8: 3 };
const COMPUTE_FLOAT = 68;
const COMPUTE_TF32 = 77;
const TRANSPOSE = { a: 3, b: 4 };
/**
 * float8: where the factors are, that there is one for each row and column, and that sums stay in the tensor cores' 14 bits: what that loses is
 * a fifteenth of what rounding to float8 loses.
 */
const SCALES = { a: 17, b: 18 };
const SCALE_MODES = { a: 31, b: 32, rows: 3 };
const FAST_SUMS = 25;
/** The first version with factors for rows and columns. */
const SCALES_SINCE = 120_900;
const BATCH = { count: 5, stride: 6 };
const WORKSPACE_LIMIT = 1;
const ALIGNMENTS = [5, 6, 7, 8];
/** cublasLtMatmulHeuristicResult_t: the algorithm, its workspace, a status, and what we do not read. */
const RESULT_BYTES = 96;
const ALGORITHM_BYTES = 64;

interface Calls {
  setUp: NativeFunction;
  descriptor: NativeFunction;
  setDescriptor: NativeFunction;
  layout: NativeFunction;
  setLayout: NativeFunction;
  preference: NativeFunction;
  setPreference: NativeFunction;
  destroyPreference: NativeFunction;
  heuristics: NativeFunction;
  multiply: NativeFunction;
}

/** What cublasLt needs for one shape. */
interface Ready {
  descriptor: bigint;
  first: bigint;
  second: bigint;
  result: bigint;
  algorithm: Uint8Array;
}

/** Where the matrices of a product are on the device. */
export interface GemmAddresses {
  a: number;
  b: number;
  c: number;
  scales?: { a: number; b: number };
}

/** Where the products of a search may write: memory for a moment, 0 where there is none. */
export type Borrow = (bytes: number) => { address: number; giveBack(): void } | undefined;

/** cublasLt: for each shape of a product the algorithm that ran fastest, remembered on disk. */
export class Blas {
  readonly version: number;
  private readonly driver: Driver;
  private readonly calls: Calls;
  private readonly handle: bigint;
  private readonly workspace: number;
  private readonly tf32: boolean;
  private readonly ready = new Map<string, Ready>();
  private readonly alpha = new Float32Array(new ArrayBuffer(4));
  private readonly beta = new Float32Array(new ArrayBuffer(4));
  private readonly out = new BigUint64Array(new ArrayBuffer(8));

  /** `workspace` is GEMM_WORKSPACE_BYTES of device memory. With tf32, float32 products round their factors to TF32. */
  constructor(driver: Driver, library: NativeLibrary, workspace: number, { tf32 }: { tf32: boolean }) {
    this.driver = driver;
    this.workspace = workspace;
    this.tf32 = tf32;
    const matrix = 'uint64_t a, uint64_t layoutA, uint64_t b, uint64_t layoutB';
    this.calls = {
      setUp: library.bind('int cublasLtCreate(void *handle)'),
      descriptor: library.bind('int cublasLtMatmulDescCreate(void *descriptor, int compute, int scale)'),
      setDescriptor: library.bind(
        'int cublasLtMatmulDescSetAttribute(uint64_t descriptor, int attribute, void *value, uint64_t bytes)',
      ),
      layout: library.bind(
        'int cublasLtMatrixLayoutCreate(void *layout, int type, uint64_t rows, uint64_t columns, int64_t leading)',
      ),
      setLayout: library.bind(
        'int cublasLtMatrixLayoutSetAttribute(uint64_t layout, int attribute, void *value, uint64_t bytes)',
      ),
      preference: library.bind('int cublasLtMatmulPreferenceCreate(void *preference)'),
      setPreference: library.bind(
        'int cublasLtMatmulPreferenceSetAttribute(uint64_t preference, int attribute, void *value, uint64_t bytes)',
      ),
      destroyPreference: library.bind('int cublasLtMatmulPreferenceDestroy(uint64_t preference)'),
      heuristics: library.bind(
        'int cublasLtMatmulAlgoGetHeuristic(uint64_t handle, uint64_t descriptor, uint64_t a, uint64_t b, uint64_t c, ' +
          'uint64_t d, uint64_t preference, int wanted, void *results, void *found)',
      ),
      multiply: library.bind(
        `int cublasLtMatmul(uint64_t handle, uint64_t descriptor, void *alpha, ${matrix}, void *beta, uint64_t c, ` +
          'uint64_t layoutC, uint64_t d, uint64_t layoutD, void *algorithm, uint64_t workspace, uint64_t bytes, ' +
          'uint64_t stream)',
      ),
    };
    this.version = blasVersion(library);
    this.handle = this.get(this.calls.setUp);
  }

  /**
   * c = alpha a b + beta c in stream order. A shape that is new is searched for first, if scratch memory can be borrowed.
   * @throws BackendError
   */
  multiply(product: PreparedGemm, at: GemmAddresses, borrow: Borrow | undefined): void {
    const { m, n, k, beta, resultType } = product;
    if (m === 0 || n === 0) return;
    if (k === 0) {
      if (beta === 0) this.driver.zero(at.c, (product.batch?.count ?? 1) * m * n * bytesOf[resultType]);
      else if (beta !== 1) throw new BackendError(`gemm: k is 0 with beta ${beta}, expected 0 or 1`);
      return;
    }
    // Leading dimensions of 16-byte rows and 16-byte addresses allow the fast algorithms.
    const aligned = [at.a, at.b, at.c].every((address) => address % 16 === 0);
    const { transposeA, transposeB, type } = product;
    const batch = product.batch ? Object.values(product.batch) : [];
    const kind = product.scales ? [...batch, 'scaled'] : batch;
    const key = [type, resultType, transposeA, transposeB, m, n, k, beta !== 0, aligned, this.tf32, ...kind].join(' ');
    let ready = this.ready.get(key);
    if (!ready) {
      ready = this.prepare(product, aligned, key, at, borrow);
      this.ready.set(key, ready);
    }
    this.run(product, ready, at, ready.algorithm);
  }

  private run({ alpha, beta }: PreparedGemm, r: Ready, at: GemmAddresses, algorithm: Uint8Array): void {
    const { a, b, c } = at;
    this.alpha[0] = alpha;
    this.beta[0] = beta;
    this.setScales(r.descriptor, at);
    // Row-major c = a b is column-major c' = b' a'.
    this.check(
      this.calls.multiply(
        this.handle,
        r.descriptor,
        this.alpha,
        b,
        r.first,
        a,
        r.second,
        this.beta,
        c,
        r.result,
        c,
        r.result,
        algorithm,
        this.workspace,
        GEMM_WORKSPACE_BYTES,
        this.driver.stream,
      ),
      'cublasLtMatmul',
    );
  }

  private setScales(descriptor: bigint, { scales }: GemmAddresses): void {
    if (!scales) return;
    const set = (attribute: number, address: number) =>
      this.check(
        this.calls.setDescriptor(descriptor, attribute, BigUint64Array.of(BigInt(address)), 8),
        'cublasLtMatmulDesc',
      );
    set(SCALES.a, scales.b);
    set(SCALES.b, scales.a);
  }

  private prepare(
    product: PreparedGemm,
    aligned: boolean,
    key: string,
    at: GemmAddresses,
    borrow: Borrow | undefined,
  ): Ready {
    const { calls } = this;
    const { m, n, k, transposeA, transposeB, type, resultType } = product;
    const compute = this.tf32 && type === 'f32' ? COMPUTE_TF32 : COMPUTE_FLOAT;
    const descriptor = this.get(calls.descriptor, compute, cudaTypes.f32);
    const set = (attribute: number, value: number | boolean) =>
      this.check(calls.setDescriptor(descriptor, attribute, Int32Array.of(Number(value)), 4), 'cublasLtMatmulDesc');
    set(TRANSPOSE.a, transposeB);
    set(TRANSPOSE.b, transposeA);
    if (type === 'f8') this.check(calls.setDescriptor(descriptor, FAST_SUMS, Int8Array.of(1), 1), 'cublasLtMatmulDesc');
    if (at.scales) {
      if (this.version < SCALES_SINCE)
        throw new BackendError(`cublasLt: is version ${this.version}, expected ${SCALES_SINCE} or newer for float8`);
      set(SCALE_MODES.a, SCALE_MODES.rows);
      set(SCALE_MODES.b, SCALE_MODES.rows);
      this.setScales(descriptor, at);
    }
    const { count, ...strides } = product.batch ?? { count: 1, a: 0, b: 0, c: 0 };
    const layout = (t: DType, rows: number, columns: number, stride: number) => {
      const made = this.get(calls.layout, cudaTypes[t], rows, columns, rows);
      if (count > 1) {
        this.check(calls.setLayout(made, BATCH.count, Int32Array.of(count), 4), 'cublasLtMatrixLayout');
        this.check(calls.setLayout(made, BATCH.stride, BigInt64Array.of(BigInt(stride)), 8), 'cublasLtMatrixLayout');
      }
      return made;
    };
    const shape = {
      descriptor,
      first: transposeB ? layout(type, k, n, strides.b) : layout(type, n, k, strides.b),
      second: transposeA ? layout(type, m, k, strides.a) : layout(type, k, m, strides.a),
      result: layout(resultType, n, m, strides.c),
    };
    const file = `cublas/${createHash('sha256').update(`cold ${this.version} ${this.driver.device.name} ${key}`).digest('hex').slice(0, 32)}`;
    const known = readCached(file);
    if (known?.length === ALGORITHM_BYTES) return { ...shape, algorithm: Uint8Array.from(known) };
    const candidates = this.candidates(shape, aligned);
    if (candidates.length === 0)
      throw new BackendError(`cublasLt: has no algorithm for ${key} (types, transposes, m, n, k)`);
    const bytes = count * m * n * bytesOf[resultType];
    const scratch = candidates.length > 1 ? borrow?.(bytes + FLUSH_BYTES) : undefined;
    if (!scratch) return { ...shape, algorithm: candidates[0]! };
    const best = this.fastest(candidates, (algorithm) => {
      this.driver.zero(scratch.address + bytes, FLUSH_BYTES);
      return this.time(product, { ...shape, algorithm }, { ...at, c: scratch.address });
    });
    scratch.giveBack();
    writeCached(file, best);
    return { ...shape, algorithm: best };
  }

  /** Algorithms that cublasLt thinks fastest, best first. */
  private candidates({ descriptor, first, second, result }: Omit<Ready, 'algorithm'>, aligned: boolean): Uint8Array[] {
    const { calls } = this;
    const preference = this.get(calls.preference);
    const set = (attribute: number, value: Uint32Array | BigUint64Array) =>
      this.check(calls.setPreference(preference, attribute, value, value.byteLength), 'cublasLtMatmulPreference');
    set(WORKSPACE_LIMIT, BigUint64Array.of(BigInt(GEMM_WORKSPACE_BYTES)));
    for (const attribute of ALIGNMENTS) set(attribute, Uint32Array.of(aligned ? 16 : 2));
    const results = new Uint8Array(CANDIDATES * RESULT_BYTES);
    const found = new Int32Array(1);
    const { handle } = this;
    const code = calls.heuristics(
      handle,
      descriptor,
      first,
      second,
      result,
      result,
      preference,
      CANDIDATES,
      results,
      found,
    );
    this.check(calls.destroyPreference(preference), 'cublasLtMatmulPreferenceDestroy');
    if (code !== 0) return [];
    const status = new DataView(results.buffer);
    return Array.from({ length: found[0]! }, (_, i) => i * RESULT_BYTES)
      .filter((start) => status.getInt32(start + ALGORITHM_BYTES + 8, true) === 0)
      .map((start) => results.slice(start, start + ALGORITHM_BYTES));
  }

  /** The candidate that takes least: all run once, then the best take turns, so that a change of clocks hits all of them. */
  private fastest(candidates: readonly Uint8Array[], time: (algorithm: Uint8Array) => number): Uint8Array {
    const finalists = candidates
      .map((algorithm) => {
        time(algorithm); // its code is loaded
        return { algorithm, milliseconds: time(algorithm) };
      })
      .sort((a, b) => a.milliseconds - b.milliseconds)
      .slice(0, FINALISTS);
    for (let round = 0; round < ROUNDS; round++) for (const one of finalists) one.milliseconds += time(one.algorithm);
    return finalists.reduce((a, b) => (b.milliseconds < a.milliseconds ? b : a)).algorithm;
  }

  /** Milliseconds of one run of a candidate; infinite if it does not work after all. */
  private time(product: PreparedGemm, ready: Ready, at: GemmAddresses): number {
    const { driver } = this;
    const [from, to] = [driver.createEvent({ timing: true }), driver.createEvent({ timing: true })];
    try {
      driver.record(from);
      this.run(product, ready, at, ready.algorithm);
      driver.record(to);
      driver.wait(to);
      return driver.milliseconds(from, to);
    } catch (error) {
      if (error instanceof BackendError) return Number.POSITIVE_INFINITY;
      throw error;
    } finally {
      driver.destroyEvent(from);
      driver.destroyEvent(to);
    }
  }

  private get(call: NativeFunction, ...args: unknown[]): bigint {
    this.out[0] = 0n;
    this.check(call(this.out, ...args), 'cublasLt');
    return this.out[0]!;
  }

  private check(code: number, call: string): void {
    if (code !== 0) throw new BackendError(`${call}: gives status ${code} (${statusNames[code] ?? 'unknown'})`);
  }
}

const statusNames: Record<number, string> = {
  1: 'not initialised',
  3: 'allocation failed',
  7: 'invalid value',
  8: 'architecture mismatch',
  11: 'mapping error',
  13: 'execution failed',
  14: 'internal error',
  15: 'not supported',
};

/** 130000 for cublasLt 13.0. */
export const blasVersion = (library: NativeLibrary): number => library.bind('uint64_t cublasLtGetVersion()')();
