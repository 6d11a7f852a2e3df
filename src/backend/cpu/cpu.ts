/** CPU backend: C++ kernels from one shared library per instruction set, the best this processor has. */
import { existsSync, readFileSync } from 'node:fs';
import { availableParallelism } from 'node:os';
import { BackendError, UsageError } from '../../util/errors.ts';
import { type NativeFunction, type NativeLibrary, nativeDirectory, openLibrary } from '../../util/native.ts';
import {
  type Backend,
  type Captured,
  checkHeld,
  checkHost,
  type MappedFile,
  type Memory,
  markFreed,
} from '../backend.ts';
import { bytesOf, type DType, type FloatType, type HostArray } from '../dtype.ts';
import { FreeBlocks } from '../free_blocks.ts';
import { type AnyKernel, argumentsOf, dimOrder } from '../kernel.ts';
import { profiled } from '../profile.ts';
import { Heap } from './heap.ts';

class CpuMemory implements Memory {
  readonly dtype: DType;
  readonly length: number;
  readonly base: CpuMemory;
  readonly address: number;
  isFreed = false;
  constructor(dtype: DType, length: number, address: number, base?: CpuMemory) {
    this.dtype = dtype;
    this.length = length;
    this.address = address;
    this.base = base ?? this;
  }
  slice(start: number, length: number): CpuMemory {
    return new CpuMemory(this.dtype, length, this.address + start * bytesOf[this.dtype], this.base);
  }
}

/** Launches that are noted instead of done. */
interface Recording {
  /** For list.cpp: 64 bits each. */
  words: bigint[];
  launches: { kernel: AnyKernel; sizes: number[] }[];
  /** What the launches use. */
  used: Set<Memory>;
  /** Blocks that were freed meanwhile. */
  idle: FreeBlocks;
  /** Blocks with host values, which nothing may overwrite: those in use, and those that were freed. */
  written: Set<number>;
  kept: FreeBlocks;
}

/** Instruction sets of the build that this processor has, best first. */
export function instructionSets(): string[] {
  const flags = process.arch === 'x64' ? cpuFlags() : new Set<string>();
  const has = (...names: string[]) => names.every((name) => flags.has(name));
  const usable = ['baseline'];
  if (has('avx2', 'fma', 'f16c', 'bmi2', 'movbe')) usable.unshift('avx2');
  if (usable[0] === 'avx2' && has('avx512f', 'avx512bw', 'avx512cd', 'avx512dq', 'avx512vl')) usable.unshift('avx512');
  if (usable[0] === 'avx512' && has('amx_tile', 'amx_bf16', 'amx_int8', 'avx512_bf16')) usable.unshift('amx');
  return usable.filter((isa) => existsSync(`${nativeDirectory}libfat5-cpu-${isa}.so`) && permitted(isa));
}

/** Whether the system lets this process use the instruction set: a matrix unit's registers have to be asked for. */
const permitted = (isa: string): boolean =>
  isa !== 'amx' || openLibrary('fat5-cpu-amx').bind('int fat5_permitted()')() === 1;

function cpuFlags(): Set<string> {
  try {
    const line = /^flags\s*:\s*(.*)$/m.exec(readFileSync('/proc/cpuinfo', 'utf8'));
    return new Set(line?.[1]?.split(' '));
  } catch {
    return new Set(); // not Linux: the baseline runs everywhere
  }
}

/** Functions of memory.cpp, mapping.cpp, convert.cpp and list.cpp. */
const natives = {
  alloc: 'uint64_t fat5_alloc(uint64_t bytes)',
  free: 'int fat5_free(uint64_t address)',
  zero: 'int fat5_zero(uint64_t address, uint64_t bytes)',
  write: 'int fat5_write(uint64_t to, const void *from, uint64_t bytes)',
  read: 'int fat5_read(uint64_t from, void *to, uint64_t bytes)',
  map: 'uint64_t fat5_map(int32_t descriptor, uint64_t bytes)',
  unmap: 'int fat5_unmap(uint64_t address, uint64_t bytes)',
  expect: 'int fat5_expect(uint64_t address, uint64_t bytes)',
  forget: 'int fat5_forget(uint64_t address, uint64_t bytes)',
  launch: 'int fat5_launch(const void *list, int64_t count)',
  convert: 'int fat5_convert(uint64_t to, int32_t toType, uint64_t from, int32_t fromType, int64_t count)',
};
type NativeName = keyof typeof natives;

/** convert.cpp's numbers for types. */
const typeNumbers: Record<FloatType, number> = { f32: 0, bf16: 1, f16: 2 };

class CpuBackend implements Backend {
  readonly name = 'cpu';
  readonly scratchBytes = 32 << 20;
  readonly isa: string;
  readonly usage = { bytes: 0, peakBytes: 0 };
  private readonly kernels: NativeLibrary;
  private readonly bound = new Map<AnyKernel, Map<FloatType, NativeFunction>>();
  private recording: Recording | undefined;
  private readonly native: Record<NativeName, NativeFunction>;
  private readonly heap: Heap;

  constructor(isa: string) {
    this.isa = isa;
    this.kernels = openLibrary(`fat5-cpu-${isa}`);
    const bound = Object.entries(natives).map(([name, prototype]) => [name, this.kernels.bind(prototype)]);
    this.native = Object.fromEntries(bound) as Record<NativeName, NativeFunction>;
    const { alloc, free } = this.native;
    this.heap = new Heap({ alloc: (bytes) => alloc(bytes) as number, free: (address) => void free(address) });
  }

  alloc(dtype: DType, length: number): CpuMemory {
    const bytes = Heap.sizeOf(length * bytesOf[dtype]);
    let address = this.recording?.idle.take(bytes) || this.heap.take(bytes);
    if (address === 0) {
      this.heap.trim();
      address = this.heap.take(bytes);
    }
    if (address === 0)
      throw new BackendError(`cpu: out of memory for ${bytes} bytes, ${this.usage.bytes} bytes are in use`);
    this.usage.bytes += bytes;
    this.usage.peakBytes = Math.max(this.usage.peakBytes, this.usage.bytes);
    return new CpuMemory(dtype, length, address);
  }

  free(base: Memory): void {
    markFreed(base);
    const { dtype, length, address } = base as CpuMemory;
    const bytes = Heap.sizeOf(length * bytesOf[dtype]);
    this.usage.bytes -= bytes;
    const { recording } = this;
    (recording?.written.has(address) ? recording.kept : (recording?.idle ?? this.heap)).give(address, bytes);
  }

  /** Returns idle memory to the system. */
  trim(): void {
    this.heap.trim();
  }

  write(to: Memory, from: HostArray): void {
    this.recording?.written.add((to.base as CpuMemory).address);
    checkHost(to, from);
    this.native.write((to as CpuMemory).address, from, from.byteLength);
  }

  zero(memory: Memory): void {
    const { address, dtype, length } = memory as CpuMemory;
    this.native.zero(address, length * bytesOf[dtype]);
  }

  async read(from: Memory, into: HostArray): Promise<void> {
    checkHost(from, into);
    if (this.native.read((from as CpuMemory).address, into, into.byteLength) !== 0)
      throw new BackendError(
        'cpu: a weights file was cut short while a model used it, expected that it stays; open the model again',
      );
  }

  map(descriptor: number, bytes: number): MappedFile | undefined {
    const start = this.native.map(descriptor, bytes);
    if (start === 0) return undefined;
    const whole = new CpuMemory('i8', bytes, start);
    const advise = (name: 'expect' | 'forget', part: Memory) =>
      void this.native[name]((part as CpuMemory).address, part.length * bytesOf[part.dtype]);
    return {
      at: (dtype, position, length) => new CpuMemory(dtype, length, start + position, whole),
      expect: (part) => advise('expect', part),
      forget: (part) => advise('forget', part),
      close: () => {
        markFreed(whole);
        this.native.unmap(start, bytes);
      },
    };
  }

  convert(to: Memory, from: Memory): void {
    const [target, source] = [to, from].map((memory) => memory as CpuMemory) as [CpuMemory, CpuMemory];
    const types = [to, from].map(({ dtype }) => typeNumbers[dtype as FloatType]);
    this.native.convert(target.address, types[0], source.address, types[1], to.length);
  }

  launch(kernel: AnyKernel, type: FloatType, args: (Memory | null)[], sizes: number[], scalars: number[]): void {
    const fn = this.function(kernel, type);
    const values: number[] = [];
    for (const arg of args) values.push(arg ? (arg as CpuMemory).address : 0);
    if (this.recording) {
      for (const arg of args) if (arg) this.recording.used.add(arg.base);
      this.note(this.recording, kernel, type, { values, sizes, scalars });
    } else checkCode(fn(...values, ...sizes, ...scalars), kernel, sizes);
  }

  private note(
    { words, launches }: Recording,
    kernel: AnyKernel,
    type: FloatType,
    { values, sizes, scalars }: Record<'values' | 'sizes' | 'scalars', number[]>,
  ): void {
    const call = this.kernels.bind(`uint64_t fat5_call_${type}(const char *name)`)(kernel.name);
    const kinds = Object.values(kernel.scalars);
    const bits = scalars.map((x, i) => (kinds[i] === 'f32' ? new Int32Array(Float32Array.of(x).buffer)[0]! : x));
    const given = [...values, ...sizes, ...bits];
    words.push(...[call, given.length, ...given].map(BigInt));
    launches.push({ kernel, sizes });
  }

  /** Blocks that `work` allocates and frees are used by its own launches alone, until the recording is disposed of. */
  list(work: () => void): Captured {
    const recording: Recording = {
      words: [],
      launches: [],
      used: new Set(),
      idle: new FreeBlocks(),
      written: new Set(),
      kept: new FreeBlocks(),
    };
    const dispose = () => {
      for (const blocks of [recording.idle, recording.kept]) this.heap.giveAll(blocks);
    };
    this.recording = recording;
    try {
      work();
    } finally {
      this.recording = undefined;
    }
    const { launches } = recording;
    const held = [...recording.used].filter((base) => !base.isFreed); // others were for the launches alone
    const words = BigInt64Array.from(recording.words);
    const run = () => {
      checkHeld(held);
      const result = this.native.launch(words, launches.length);
      if (result === 0) return;
      const { kernel, sizes } = launches[(result >> 4) - 1]!;
      checkCode(-(result & 15), kernel, sizes);
    };
    return { run, dispose };
  }

  private function(kernel: AnyKernel, type: FloatType): NativeFunction {
    let types = this.bound.get(kernel);
    if (!types) this.bound.set(kernel, (types = new Map()));
    let fn = types.get(type);
    if (!fn) {
      if (kernel.only)
        throw new BackendError(`${kernel.name}: is for ${kernel.only} alone, expected a tensor there, not on the cpu`);
      if (type === 'f16')
        throw new BackendError(`${kernel.name}: float16 runs on a GPU only, expected bfloat16 or float32 on the cpu`);
      if (kernel.types && !kernel.types.includes(type))
        throw new BackendError(`${kernel.name}: is not for ${type}, expected ${kernel.types.join(', ')}`);
      const pointers = Object.keys(argumentsOf(kernel)).map((name) => `uint64_t ${name}`);
      const scalars = Object.entries(kernel.scalars).map(([name, t]) => `${t === 'i32' ? 'int32_t' : 'float'} ${name}`);
      const parameters = [...pointers, ...dimOrder(kernel).map((dim) => `int64_t ${dim}`), ...scalars];
      fn = this.kernels.bind(`int ${kernel.name}_${type}(${parameters.join(', ')})`);
      types.set(type, fn);
    }
    return fn;
  }

  resetPeak(): void {
    this.usage.peakBytes = this.usage.bytes;
  }

  /** Threads that kernels use: FAT5_THREADS or all that this process may use. */
  get threads(): number {
    return this.kernels.bind('int fat5_threads()')();
  }
}

/** What kernel.h's codes mean: OUT_OF_MEMORY, BAD_INDEX, BAD_SCALAR. */
const meanings: Record<number, string> = {
  [-1]: 'there is no memory left for its work space',
  [-2]: 'an id or label lies outside its range',
  [-3]: 'a scalar is none that it knows',
};

/** @throws BackendError unless a kernel's code is 0 */
function checkCode(code: number, kernel: AnyKernel, sizes: number[]): void {
  if (code !== 0) throw new BackendError(`${kernel.name}: ${meanings[code]}, sizes ${namedSizes(kernel, sizes)}`);
}

/** "N=2 D=8": the sizes of a launch for an error text. */
const namedSizes = (kernel: AnyKernel, sizes: number[]) =>
  dimOrder(kernel)
    .map((dim, i) => `${dim}=${sizes[i]}`)
    .join(' ');

const open = new Map<string, CpuBackend>();

/**
 * The CPU backend, one per process and instruction set; the best set when none is named.
 * @throws BackendError if there is no such library, UsageError for an impossible FAT5_THREADS
 */
export function openCpu(
  isa = process.env.FAT5_ISA || instructionSets()[0],
): Backend & { isa: string; threads: number } {
  if (!isa) throw new BackendError(`cpu: no kernel library in ${nativeDirectory}, run "npm run build" (needs g++)`);
  process.env.FAT5_THREADS ||= String(availableParallelism());
  if (!/^[1-9]\d*$/.test(process.env.FAT5_THREADS))
    throw new UsageError(`FAT5_THREADS: is ${process.env.FAT5_THREADS}, expected a positive number of threads`);
  let backend = open.get(isa);
  if (!backend) {
    const usable = instructionSets();
    if (!usable.includes(isa))
      throw new BackendError(
        `cpu: instruction set ${isa} is not usable here, expected ${usable.join(', ')} (FAT5_ISA)`,
      );
    backend = new CpuBackend(isa);
    if (Number(process.env.DEBUG) >= 2) profiled(backend);
    open.set(isa, backend);
  }
  return backend;
}
