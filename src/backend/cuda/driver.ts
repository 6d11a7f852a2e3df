/**
 * libcuda through FFI: one device, one stream, everything in launch order. Addresses and handles are numbers. The interface
 * is what the rest of the CUDA backend uses, so that its logic can be tested without a GPU.
 */
import { BackendError } from '../../util/errors.ts';
import { addressOf, type NativeFunction, openSystemLibrary } from '../../util/native.ts';
import type { FloatType } from '../dtype.ts';
import type { CudaDevice } from './plan.ts';

/** A device with what messages and limits need. */
export interface DeviceProperties extends CudaDevice {
  name: string;
  /** CUDA version that the driver supports: 13000 is 13.0. */
  driverVersion: number;
  totalBytes: number;
  /** Such as "0000:3b:00.0". */
  pciAddress: string;
}

/** A captured graph, ready to run. */
export type GraphHandle = number;

/** What the CUDA backend uses of libcuda; sizes in bytes. */
export interface Driver {
  readonly device: DeviceProperties;
  readonly stream: number;
  /** A range of addresses without memory, and memory behind a part of it; 0 when there is not enough. */
  reserve(bytes: number): number;
  unreserve(address: number, bytes: number): void;
  map(address: number, bytes: number): number;
  unmap(address: number, bytes: number, handle: number): void;
  /** Page-locked memory of the host. */
  allocateHost(bytes: number): number;
  freeHost(address: number): void;
  /** Copies in stream order; `from` and `into` are page-locked addresses or typed arrays. */
  upload(to: number, from: number, bytes: number): void;
  download(into: number | ArrayBufferView, from: number, bytes: number): void;
  zero(at: number, bytes: number): void;
  createEvent(options: { timing: boolean }): number;
  destroyEvent(event: number): void;
  record(event: number): void;
  /** Whether the work before the event is done. @throws BackendError if it failed */
  isDone(event: number): boolean;
  wait(event: number): void;
  milliseconds(from: number, to: number): number;
  load(image: Uint8Array): number;
  /** A kernel: the same number each time. */
  entry(module: number, name: string): number;
  /** Lets a kernel's launches use up to this much dynamic shared memory, and no more, whatever was allowed before. */
  allowShared(entry: number, bytes: number): void;
  /** Writes what the copy engine needs to know of a matrix of 16-bit floats in memory, TENSOR_MAP_BYTES, at a byte of `into`. */
  describeBoxes(matrix: BoxedMatrix, into: Uint8Array, at: number): void;
  /** `args` are the packed arguments. */
  launch(entry: number, shape: LaunchShape, args: PackedArguments): void;
  synchronize(): void;
  beginCapture(): void;
  endCapture(): GraphHandle;
  runGraph(graph: GraphHandle): void;
  destroyGraph(graph: GraphHandle): void;
}

/** A row-major matrix in memory and the boxes [box, BOX_COLUMNS] that are taken from it. */
export interface BoxedMatrix {
  address: number;
  type: FloatType;
  rows: number;
  columns: number;
  box: number;
}

/** Blocks of a launch. */
export type Grid = readonly [x: number, y: number, z: number];

/** How a kernel is launched, as in CudaLaunch. */
export interface LaunchShape {
  grid: Grid;
  block: number;
  sharedBytes: number;
  together: boolean;
  ahead: boolean;
}

/** Most bytes of a kernel's arguments. */
export const ARGUMENT_BYTES = 4096;
const MOST_ARGUMENTS = 64;
/** Bytes of a CUtensorMap, at a multiple of 64. */
export const TENSOR_MAP_BYTES = 128;
/** Columns of a box: with two bytes each a row of 128 bytes, which the copy engine swizzles. */
const BOX_COLUMNS = 64;
/** CUtensorMapDataType; CU_TENSOR_MAP_SWIZZLE_128B; CU_TENSOR_MAP_L2_PROMOTION_L2_256B. */
const tensorTypes: Record<FloatType, number> = { f16: 6, f32: 7, bf16: 9 };
const SWIZZLE_128B = 3;
const PROMOTE_256B = 3;

/** One buffer for the arguments of every launch, with what cuLaunchKernel needs to find it. */
export class PackedArguments {
  readonly view = new DataView(new ArrayBuffer(ARGUMENT_BYTES));
  /** CU_LAUNCH_PARAM_BUFFER_POINTER, address, CU_LAUNCH_PARAM_BUFFER_SIZE, address of the size, CU_LAUNCH_PARAM_END. */
  readonly extra: BigUint64Array;
  private readonly size = new BigUint64Array(new ArrayBuffer(8));
  private readonly addresses = new BigUint64Array(new ArrayBuffer(8 * MOST_ARGUMENTS));
  private one = false;

  constructor() {
    const address = (buffer: ArrayBufferLike) => BigInt(addressOf(buffer as ArrayBuffer));
    this.extra = new BigUint64Array(new ArrayBuffer(40));
    this.extra.set([1n, address(this.view.buffer), 2n, address(this.size.buffer), 0n]);
  }

  /** Where the arguments are one by one, for kernels whose own places for them are not these; null for others. */
  get each(): BigUint64Array | null {
    return this.one ? this.addresses : null;
  }
  set offsets(offsets: readonly number[] | undefined) {
    this.one = offsets !== undefined;
    offsets?.forEach((offset, i) => {
      this.addresses[i] = this.extra[1]! + BigInt(offset);
    });
  }

  set bytes(bytes: number) {
    this.size[0] = BigInt(bytes);
  }
  get bytes(): number {
    return Number(this.size[0]);
  }
}

const NOT_READY = 600;
const OUT_OF_MEMORY = 2;
const attributes = { multiprocessors: 16, major: 75, minor: 76, sharedBytes: 97 };
const MAX_DYNAMIC_SHARED = 8;
/** Dynamic shared memory that every kernel may use without `allowShared`, bytes. */
export const DEFAULT_SHARED = 48 * 1024;
/** Other calls of this thread stay legal while a stream is being captured. */
const CAPTURE_RELAXED = 2;

const prototypes = {
  cuInit: 'uint32_t flags',
  cuDriverGetVersion: 'void *version',
  cuDeviceGetCount: 'void *count',
  cuDeviceGet: 'void *device, int ordinal',
  cuDeviceGetName: 'void *name, int length, int device',
  cuDeviceGetAttribute: 'void *value, int attribute, int device',
  cuDeviceGetPCIBusId: 'void *address, int length, int device',
  cuDeviceTotalMem_v2: 'void *bytes, int device',
  cuDevicePrimaryCtxRetain: 'void *context, int device',
  cuCtxSetCurrent: 'uint64_t context',
  cuStreamCreate: 'void *stream, uint32_t flags',
  cuStreamSynchronize: 'uint64_t stream',
  cuStreamBeginCapture_v2: 'uint64_t stream, int mode',
  cuStreamEndCapture: 'uint64_t stream, void *graph',
  cuGraphInstantiateWithFlags: 'void *executable, uint64_t graph, uint64_t flags',
  cuGraphDestroy: 'uint64_t graph',
  cuGraphExecDestroy: 'uint64_t executable',
  cuGraphLaunch: 'uint64_t executable, uint64_t stream',
  cuMemAddressReserve: 'void *address, uint64_t bytes, uint64_t alignment, uint64_t hint, uint64_t flags',
  cuMemAddressFree: 'uint64_t address, uint64_t bytes',
  cuMemCreate: 'void *handle, uint64_t bytes, void *properties, uint64_t flags',
  cuMemMap: 'uint64_t address, uint64_t bytes, uint64_t offset, uint64_t handle, uint64_t flags',
  cuMemSetAccess: 'uint64_t address, uint64_t bytes, void *access, uint64_t count',
  cuMemUnmap: 'uint64_t address, uint64_t bytes',
  cuMemRelease: 'uint64_t handle',
  cuMemHostAlloc: 'void *address, uint64_t bytes, uint32_t flags',
  cuMemFreeHost: 'uint64_t address',
  cuMemcpyHtoDAsync_v2: 'uint64_t to, uint64_t from, uint64_t bytes, uint64_t stream',
  cuMemcpyDtoHAsync_v2: 'void *into, uint64_t from, uint64_t bytes, uint64_t stream',
  cuMemsetD8Async: 'uint64_t at, uint8_t value, uint64_t bytes, uint64_t stream',
  cuEventCreate: 'void *event, uint32_t flags',
  cuEventDestroy_v2: 'uint64_t event',
  cuEventRecord: 'uint64_t event, uint64_t stream',
  cuEventQuery: 'uint64_t event',
  cuEventSynchronize: 'uint64_t event',
  cuEventElapsedTime: 'void *milliseconds, uint64_t from, uint64_t to',
  cuModuleLoadData: 'void *module, void *image',
  cuModuleGetFunction: 'void *entry, uint64_t module, const char *name',
  cuFuncSetAttribute: 'uint64_t entry, int attribute, int value',
  cuLaunchKernel:
    'uint64_t entry, uint32_t gx, uint32_t gy, uint32_t gz, uint32_t bx, uint32_t by, uint32_t bz, uint32_t shared, ' +
    'uint64_t stream, void *parameters, void *extra',
  cuTensorMapEncodeTiled:
    'uint64_t map, int type, uint32_t rank, uint64_t address, void *sizes, void *strides, void *box, void *steps, ' +
    'int interleave, int swizzle, int promotion, int fill',
  cuLaunchKernelEx: 'void *config, uint64_t entry, void *parameters, void *extra',
} as const;

/** CUlaunchAttributeID. */
const COOPERATIVE = 2;
const PROGRAMMATIC_STREAM_SERIALIZATION = 6;

/** CUlaunchConfig with one CUlaunchAttribute that is switched on. */
function oneAttribute() {
  const attribute = new Uint32Array(new ArrayBuffer(72));
  attribute[2] = 1;
  const config = new ArrayBuffer(56);
  const longs = new BigUint64Array(config);
  longs[5] = BigInt(addressOf(attribute.buffer));
  longs[6] = 1n;
  return { attribute, ints: new Uint32Array(config), longs };
}

type Calls = Record<keyof typeof prototypes, NativeFunction>;

/** cuMemCreate's and cuMemSetAccess's structures for plain device memory. */
const memoryProperties = (ordinal: number) => Int32Array.of(1, 0, 1, ordinal, 0, 0, 0, 0);
const readAndWrite = (ordinal: number) => Int32Array.of(1, ordinal, 3);

class NativeDriver implements Driver {
  readonly device: DeviceProperties;
  readonly stream: number;
  private readonly calls = {} as Calls;
  private readonly describe: (code: number) => string;
  private readonly ordinal: number;
  private readonly out = new BigUint64Array(new ArrayBuffer(8));
  private readonly launchConfig = oneAttribute();
  private readonly tensorMap = new ArrayBuffer(2 * TENSOR_MAP_BYTES);

  constructor(ordinal: number) {
    const library = openDriverLibrary();
    for (const [name, parameters] of Object.entries(prototypes))
      this.calls[name as keyof Calls] = library.bind(`int ${name}(${parameters})`);
    const nameOf = library.bind('int cuGetErrorName(int code, _Out_ const char **name)');
    const textOf = library.bind('int cuGetErrorString(int code, _Out_ const char **text)');
    this.describe = (code) => {
      const name = [''];
      const text = [''];
      return nameOf(code, name) === 0 && textOf(code, text) === 0 ? `${name[0]}: ${text[0]}` : `error ${code}`;
    };
    this.ordinal = ordinal;
    this.check(this.calls.cuInit(0), 'cuInit');
    this.device = this.properties();
    this.check(this.calls.cuCtxSetCurrent(this.get('cuDevicePrimaryCtxRetain', ordinal)), 'cuCtxSetCurrent');
    this.stream = this.get('cuStreamCreate', 1); // does not wait for the default stream
  }

  /** @throws BackendError for a code that is not success */
  private check(code: number, call: string): void {
    if (code !== 0) throw new BackendError(`${call}: ${this.describe(code)}`);
  }

  /** Calls a function whose first argument is where it writes a handle, address or count. */
  private get(name: keyof Calls, ...args: unknown[]): number {
    this.out[0] = 0n;
    this.check(this.calls[name](this.out, ...args), name);
    return Number(this.out[0]);
  }

  private properties(): DeviceProperties {
    const attribute = (id: number) => this.get('cuDeviceGetAttribute', id, this.ordinal);
    const textBy = (name: 'cuDeviceGetName' | 'cuDeviceGetPCIBusId') => {
      const bytes = new Uint8Array(128);
      this.check(this.calls[name](bytes, bytes.length, this.ordinal), name);
      return Buffer.from(bytes.subarray(0, bytes.indexOf(0))).toString();
    };
    return {
      name: textBy('cuDeviceGetName'),
      pciAddress: textBy('cuDeviceGetPCIBusId'),
      driverVersion: this.get('cuDriverGetVersion'),
      totalBytes: this.get('cuDeviceTotalMem_v2', this.ordinal),
      arch: 10 * attribute(attributes.major) + attribute(attributes.minor),
      multiprocessors: attribute(attributes.multiprocessors),
      sharedBytes: attribute(attributes.sharedBytes),
    };
  }

  reserve(bytes: number): number {
    return this.get('cuMemAddressReserve', bytes, 0, 0, 0);
  }

  unreserve(address: number, bytes: number): void {
    this.check(this.calls.cuMemAddressFree(address, bytes), 'cuMemAddressFree');
  }

  map(address: number, bytes: number): number {
    this.out[0] = 0n;
    const code = this.calls.cuMemCreate(this.out, bytes, memoryProperties(this.ordinal), 0);
    if (code === OUT_OF_MEMORY) return 0;
    this.check(code, 'cuMemCreate');
    const handle = Number(this.out[0]);
    this.check(this.calls.cuMemMap(address, bytes, 0, handle, 0), 'cuMemMap');
    this.check(this.calls.cuMemSetAccess(address, bytes, readAndWrite(this.ordinal), 1), 'cuMemSetAccess');
    return handle;
  }

  unmap(address: number, bytes: number, handle: number): void {
    this.check(this.calls.cuMemUnmap(address, bytes), 'cuMemUnmap');
    this.check(this.calls.cuMemRelease(handle), 'cuMemRelease');
  }

  allocateHost(bytes: number): number {
    return this.get('cuMemHostAlloc', bytes, 0);
  }

  freeHost(address: number): void {
    this.check(this.calls.cuMemFreeHost(address), 'cuMemFreeHost');
  }

  upload(to: number, from: number, bytes: number): void {
    this.check(this.calls.cuMemcpyHtoDAsync_v2(to, from, bytes, this.stream), 'cuMemcpyHtoDAsync');
  }

  download(into: number | ArrayBufferView, from: number, bytes: number): void {
    const target = typeof into === 'number' ? BigInt(into) : into;
    this.check(this.calls.cuMemcpyDtoHAsync_v2(target, from, bytes, this.stream), 'cuMemcpyDtoHAsync');
  }

  zero(at: number, bytes: number): void {
    this.check(this.calls.cuMemsetD8Async(at, 0, bytes, this.stream), 'cuMemsetD8Async');
  }

  createEvent({ timing }: { timing: boolean }): number {
    return this.get('cuEventCreate', timing ? 0 : 2);
  }

  destroyEvent(event: number): void {
    this.check(this.calls.cuEventDestroy_v2(event), 'cuEventDestroy');
  }

  record(event: number): void {
    this.check(this.calls.cuEventRecord(event, this.stream), 'cuEventRecord');
  }

  isDone(event: number): boolean {
    const code = this.calls.cuEventQuery(event);
    if (code === NOT_READY) return false;
    this.check(code, 'cuEventQuery');
    return true;
  }

  wait(event: number): void {
    this.check(this.calls.cuEventSynchronize(event), 'cuEventSynchronize');
  }

  milliseconds(from: number, to: number): number {
    const time = new Float32Array(1);
    this.check(this.calls.cuEventElapsedTime(time, from, to), 'cuEventElapsedTime');
    return time[0]!;
  }

  load(image: Uint8Array): number {
    return this.get('cuModuleLoadData', image);
  }

  entry(module: number, name: string): number {
    return this.get('cuModuleGetFunction', module, name);
  }

  allowShared(entry: number, bytes: number): void {
    this.check(this.calls.cuFuncSetAttribute(entry, MAX_DYNAMIC_SHARED, bytes), 'cuFuncSetAttribute');
  }

  describeBoxes({ address, type, rows, columns, box }: BoxedMatrix, into: Uint8Array, at: number): void {
    const start = addressOf(this.tensorMap);
    const aligned = Math.ceil(start / 64) * 64;
    const sizes = BigUint64Array.of(BigInt(columns), BigInt(rows));
    const strides = BigUint64Array.of(2n * BigInt(columns));
    const code = this.calls.cuTensorMapEncodeTiled(
      ...[
        aligned,
        tensorTypes[type],
        2,
        address,
        sizes,
        strides,
        Uint32Array.of(BOX_COLUMNS, box),
        Uint32Array.of(1, 1),
      ],
      ...[0, SWIZZLE_128B, PROMOTE_256B, 0],
    );
    this.check(code, 'cuTensorMapEncodeTiled');
    into.set(new Uint8Array(this.tensorMap, aligned - start, TENSOR_MAP_BYTES), at);
  }

  launch(entry: number, shape: LaunchShape, args: PackedArguments): void {
    const { grid, block, sharedBytes, together, ahead } = shape;
    const [x, y, z] = grid;
    const { stream } = this;
    const extra = args.each ? null : args.extra;
    if (together || ahead) {
      const { attribute, ints, longs } = this.launchConfig;
      attribute[0] = together ? COOPERATIVE : PROGRAMMATIC_STREAM_SERIALIZATION;
      ints.set([x, y, z, block, 1, 1, sharedBytes]);
      longs[4] = BigInt(stream);
      this.check(this.calls.cuLaunchKernelEx(ints, entry, args.each, extra), 'cuLaunchKernelEx');
      return;
    }
    const code = this.calls.cuLaunchKernel(entry, x, y, z, block, 1, 1, sharedBytes, stream, args.each, extra);
    if (code !== 0) this.check(code, 'cuLaunchKernel');
  }

  synchronize(): void {
    this.check(this.calls.cuStreamSynchronize(this.stream), 'cuStreamSynchronize');
  }

  beginCapture(): void {
    this.check(this.calls.cuStreamBeginCapture_v2(this.stream, CAPTURE_RELAXED), 'cuStreamBeginCapture');
  }

  endCapture(): GraphHandle {
    this.out[0] = 0n;
    this.check(this.calls.cuStreamEndCapture(this.stream, this.out), 'cuStreamEndCapture');
    const graph = Number(this.out[0]);
    try {
      return this.get('cuGraphInstantiateWithFlags', graph, 0);
    } finally {
      this.check(this.calls.cuGraphDestroy(graph), 'cuGraphDestroy');
    }
  }

  runGraph(graph: GraphHandle): void {
    this.check(this.calls.cuGraphLaunch(graph, this.stream), 'cuGraphLaunch');
  }

  destroyGraph(graph: GraphHandle): void {
    this.check(this.calls.cuGraphExecDestroy(graph), 'cuGraphExecDestroy');
  }
}

/** @throws BackendError where there is no NVIDIA driver */
function openDriverLibrary() {
  try {
    return openSystemLibrary('libcuda.so.1');
  } catch (cause) {
    throw new BackendError(
      'cuda: libcuda.so.1 is not there, expected an NVIDIA GPU with its driver (does nvidia-smi work?)',
      { cause },
    );
  }
}

/** Oldest driver that everything used here works with: CUDA 12.0, driver 525. */
const OLDEST_DRIVER = 12000;

/** The first visible GPU. @throws BackendError, one line, without a GPU or with a driver that is too old */
export function openDriver(): Driver {
  const library = openDriverLibrary();
  const number = new Int32Array(1);
  const version = library.bind('int cuDriverGetVersion(void *version)')(number) === 0 ? number[0]! : 0;
  if (version < OLDEST_DRIVER)
    throw new BackendError(
      `cuda: the driver supports CUDA ${versionText(version)}, expected ${versionText(OLDEST_DRIVER)} or newer (driver 525)`,
    );
  const code = library.bind('int cuInit(uint32_t flags)')(0);
  const counted = library.bind('int cuDeviceGetCount(void *count)')(number);
  if (code !== 0 || counted !== 0 || number[0] === 0)
    throw new BackendError(
      `cuda: the driver shows no GPU (cuInit gives ${code}), expected at least one; is CUDA_VISIBLE_DEVICES empty?`,
    );
  return new NativeDriver(0);
}

/** 13000 -> "13.0". */
export const versionText = (version: number): string =>
  `${Math.floor(version / 1000)}.${Math.floor((version % 1000) / 10)}`;
