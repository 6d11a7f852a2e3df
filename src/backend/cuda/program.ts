/**
 * From a kernel's plan to launches that only lack addresses: which argument lies where in the packed buffer, checked
 * against the contract and the device's limits. Knows no driver, so that every plan is tested without a device.
 */
import { BackendError } from '../../util/errors.ts';
import type { DType, FloatType } from '../dtype.ts';
import { type AnyKernel, argumentsOf, dimOrder, parsePattern } from '../kernel.ts';
import type { Grid } from './driver.ts';
import { ARGUMENT_BYTES, TENSOR_MAP_BYTES } from './driver.ts';
import type { BoxesOf, CudaDevice, CudaGemm, CudaLaunch, CudaProgram } from './plan.ts';

/** One launch, complete but for the addresses. */
export interface PreparedLaunch {
  kind: 'launch';
  specialisation: Specialisation;
  entry: string;
  grid: Grid;
  block: number;
  sharedBytes: number;
  /** As in CudaLaunch. */
  together: boolean;
  ahead: boolean;
  /** The packed arguments with letters and scalars filled in. */
  template: Uint8Array;
  /** Where addresses go: byte offset and place, a place as in `Prepared`, and what is added to the address. */
  pointers: readonly (readonly [offset: number, place: number, bytes?: number])[];
  /**
   * Where descriptions of matrices for the copy engine go, and where each argument is if there are some: the first may not be at
   * the beginning then of what a kernel reads, since it lies at a multiple of 64 bytes of its own memory.
   */
  boxes: readonly BoxesAt[];
  offsets?: readonly number[];
}

/** A matrix that the copy engine reads, complete but for its address. */
export interface BoxesAt extends Omit<BoxesOf, 'boxesOf'> {
  offset: number;
  place: number;
  type: FloatType;
}

/** What NVRTC compiles: a source under constants. */
export interface Specialisation {
  source: string;
  type: FloatType;
  defines: Readonly<Record<string, number | string>>;
}

/** A product of row-major matrices; places as in `Prepared`. */
export interface PreparedGemm extends Omit<CudaGemm['gemm'], 'a' | 'b' | 'c' | 'scales'> {
  kind: 'gemm';
  a: number;
  b: number;
  c: number;
  scales?: { a: number; b: number };
  /** Types of the factors and of the result. */
  type: DType;
  resultType: DType;
}

/** A call that lacks only addresses. */
export interface Prepared {
  /** Bytes of each workspace. Places count the contract's arguments, then these. */
  workspaces: readonly number[];
  launches: readonly (PreparedLaunch | PreparedGemm)[];
}

const MOST = { x: 2 ** 31 - 1, y: 65535, z: 65535, block: 1024 };

/** One call of a kernel, by its contract's names. */
export interface Call {
  sizes: Record<string, number>;
  scalars: Record<string, number>;
  type: FloatType;
  absent: ReadonlySet<string>;
}

/** Whether a kernel is for a device's compute capability. */
export const isFor = ({ arch = 0, newest = Number.POSITIVE_INFINITY }: AnyKernel, device: CudaDevice): boolean =>
  arch <= device.arch && device.arch <= newest;

/**
 * Runs a kernel's plan for one call and checks what it says.
 * @throws BackendError if the kernel has no plan, or the plan names what is not there or exceeds the device
 */
export function prepare(kernel: AnyKernel, call: Call, device: CudaDevice): Prepared {
  const { cuda } = kernel;
  if (!cuda) throw new BackendError(`${kernel.name}: has no CUDA implementation yet, run it with device=cpu`);
  if (!isFor(kernel, device))
    throw new BackendError(
      `${kernel.name}: is for GPUs of compute capability ${capability(kernel.arch!)} ${kernel.newest ? `to ${capability(kernel.newest)}` : 'and newer'}, ` +
        `this one has ${capability(device.arch)}`,
    );
  const { sizes, scalars, type, absent } = call;
  const program = cuda({ sizes, scalars, type, device, has: (name) => !absent.has(name) });
  const names = Object.keys(argumentsOf(kernel));
  const workspaces = Object.entries(program.workspace ?? {});
  const places = [...names, ...workspaces.map(([name]) => name)];
  const fail = (why: string): never => {
    throw new BackendError(`${kernel.name}: its CUDA plan ${why}, sizes ${JSON.stringify(sizes)}`);
  };
  for (const [name, bytes] of workspaces)
    if (!Number.isSafeInteger(bytes) || bytes < 0) fail(`wants ${bytes} bytes of workspace "${name}"`);
  if (new Set(places).size !== places.length) fail('gives a workspace the name of an argument');
  return {
    workspaces: workspaces.map(([, bytes]) => bytes),
    launches: program.launches
      .filter((launch) => 'gemm' in launch || launch.grid.every((n) => n !== 0))
      .map((launch) =>
        'gemm' in launch
          ? gemm(kernel, launch, type, { places, fail })
          : kernelLaunch(kernel, launch, { ...call, device, places, program, fail }),
      ),
  };
}

type Fail = (why: string) => never;

const capability = (arch: number) => (arch / 10).toFixed(1);

function gemm(
  kernel: AnyKernel,
  { gemm: product }: CudaGemm,
  type: FloatType,
  { places, fail }: Pick<LaunchContext, 'places' | 'fail'>,
): PreparedGemm {
  const patterns = argumentsOf(kernel);
  const typeOf = (name: string): DType => {
    const pattern = patterns[name] ?? fail(`multiplies "${name}", which is no argument`);
    const declared = parsePattern(pattern).type;
    return declared === 'T' ? type : declared;
  };
  const { a, b, c, m, n, k, scales, ...rest } = product;
  if (typeOf(a) !== typeOf(b)) fail(`multiplies ${a} of ${typeOf(a)} with ${b} of ${typeOf(b)}`);
  for (const [letter, size] of Object.entries({ m, n, k }))
    if (!Number.isSafeInteger(size) || size < 0) fail(`has a product with ${letter} = ${size}`);
  const place = (name: string) => {
    const at = places.indexOf(name);
    return at < 0 ? fail(`multiplies with "${name}", which is no argument`) : at;
  };
  return {
    ...rest,
    ...{ m, n, k },
    ...(scales && { scales: { a: place(scales.a), b: place(scales.b) } }),
    kind: 'gemm',
    a: place(a),
    b: place(b),
    c: place(c),
    type: typeOf(a),
    resultType: Object.hasOwn(patterns, c) ? typeOf(c) : 'f32',
  };
}

interface LaunchContext extends Call {
  device: CudaDevice;
  places: readonly string[];
  program: CudaProgram;
  fail: Fail;
}

function kernelLaunch(kernel: AnyKernel, launch: CudaLaunch, context: LaunchContext): PreparedLaunch {
  const { sizes, scalars, type, device, places, program, fail } = context;
  const { source, entry, defines = {}, block, sharedBytes = 0, together = false, ahead = false } = launch;
  const [x, y = 1, z = 1] = launch.grid;
  const within = (n: number, most: number) => Number.isSafeInteger(n) && n >= 1 && n <= most;
  if (!within(x, MOST.x) || !within(y, MOST.y) || !within(z, MOST.z))
    fail(`launches ${entry} on a grid of ${launch.grid}`);
  if (!within(block, MOST.block)) fail(`launches ${entry} with blocks of ${block} threads`);
  if (!Number.isSafeInteger(sharedBytes) || sharedBytes < 0 || sharedBytes > device.sharedBytes)
    fail(`gives ${entry} ${sharedBytes} bytes of shared memory, the device has ${device.sharedBytes}`);
  const everything = [
    ...Object.keys(argumentsOf(kernel)),
    ...dimOrder(kernel),
    ...Object.keys(kernel.scalars),
    ...Object.keys(program.workspace ?? {}),
  ];
  const bytes = new DataView(new ArrayBuffer(ARGUMENT_BYTES));
  const pointers: [offset: number, place: number, bytes?: number][] = [];
  const boxes: BoxesAt[] = [];
  const offsets: number[] = [];
  let at = 0;
  const next = (size: number, alignment = size) => {
    const offset = Math.ceil(at / alignment) * alignment;
    at = offset + size;
    offsets.push(offset);
    if (at > ARGUMENT_BYTES) fail(`gives ${entry} more than ${ARGUMENT_BYTES} bytes of arguments`);
    return offset;
  };
  for (const argument of launch.arguments ?? everything) {
    if (typeof argument !== 'string' && 'boxesOf' in argument) {
      const { boxesOf, ...matrix } = argument;
      const place = places.indexOf(boxesOf);
      if (place < 0) fail(`gives ${entry} boxes of "${boxesOf}", which is no argument or workspace`);
      boxes.push({ ...matrix, place, type, offset: next(TENSOR_MAP_BYTES, 64) });
      continue;
    }
    const name = typeof argument === 'string' ? argument : argument.of;
    const place = places.indexOf(name);
    if (typeof argument !== 'string') {
      if (place < 0) fail(`gives ${entry} a part of "${name}", which is no argument or workspace`);
      pointers.push([next(8), place, argument.bytes]);
    } else if (place >= 0) pointers.push([next(8), place]);
    else if (Object.hasOwn(sizes, name)) bytes.setBigInt64(next(8), BigInt(sizes[name]!), true);
    else if (kernel.scalars[name] === 'i32') bytes.setInt32(next(4), scalars[name]!, true);
    else if (kernel.scalars[name] === 'f32') bytes.setFloat32(next(4), scalars[name]!, true);
    else fail(`gives ${entry} "${name}", which is no argument, workspace, letter or scalar`);
  }
  return {
    kind: 'launch',
    specialisation: { source, type, defines },
    entry,
    grid: [x, y, z],
    block,
    sharedBytes,
    together,
    ahead,
    template: new Uint8Array(bytes.buffer.slice(0, at)),
    pointers,
    boxes,
    ...(boxes.length > 0 && { offsets }),
  };
}
