/** CUDA backend: kernels compiled for this device, matrix products by cublasLt, everything on one stream. */
import { BackendError } from '../../util/errors.ts';
import { type Backend, type Captured, checkHeld, checkHost, type Memory, markFreed } from '../backend.ts';
import { bytesOf, type DType, type FloatType, type HostArray } from '../dtype.ts';
import { type AnyKernel, argumentsOf, dimOrder } from '../kernel.ts';
import { KernelTimes } from '../profile.ts';
import type { Blas, Borrow } from './cublas.ts';
import { DEFAULT_SHARED, type Driver, PackedArguments } from './driver.ts';
import type { EnergyCounter } from './energy.ts';
import { Arena, CudaMemory } from './memory.ts';
import type { Compiler } from './nvrtc.ts';
import { peakFlops } from './peak.ts';
import { isFor, type Prepared, type PreparedLaunch, prepare, type Specialisation } from './program.ts';
import { KeptUploads, Staging } from './staging.ts';
import { LaunchTimer } from './timing.ts';

/** Parts that a test may replace. */
export interface CudaParts {
  driver: Driver;
  compiler: Pick<Compiler, 'compile' | 'compileAll'>;
  /** Made once there is memory for its workspace. */
  blas: (allocate: (bytes: number) => number) => Pick<Blas, 'multiply'>;
  staging?: Staging;
  keptUploads?: () => KeptUploads;
  energy?: (pciAddress: string) => EnergyCounter | undefined;
  /** Whether DEBUG=2 times this backend's launches; true when left out. */
  profile?: boolean;
}

/** Scratch memory of one operation, as a share of the device's. */
const SCRATCH = 1 / 256;
/** Launches that an error of the device names. */
const RECENT = 8;
/** Calls of one kernel whose preparation is kept. */
const MOST_PREPARED = 4096;
const debug = Number(process.env.DEBUG) || 0;

interface Ready extends PreparedLaunch {
  handle: number;
}

/** One GPU. */
export class CudaBackend implements Backend {
  readonly name = 'cuda';
  readonly scratchBytes: number;
  readonly driver: Driver;
  readonly compiler: CudaParts['compiler'];
  readonly usage = { bytes: 0, peakBytes: 0 };
  private readonly blas: Pick<Blas, 'multiply'>;
  private readonly staging: Staging;
  private readonly keptUploads: () => KeptUploads;
  private readonly main: Arena;
  /** Where allocations come from now, and what keeps uploads while a graph is being captured. */
  private arena: Arena;
  private kept: KeptUploads | undefined;
  /** What the launches of the graph use that is being captured. */
  private readonly used = new Set<Memory>();
  private readonly prepared = new Map<AnyKernel, Map<string, Prepared>>();
  private readonly modules = new Map<string, number>();
  private readonly ready = new WeakMap<PreparedLaunch, Ready>();
  /** Dynamic shared memory that kernels' launches may use, bytes. */
  private readonly shared = new Map<number, number>();
  private readonly packed = new PackedArguments();
  private readonly packedBytes: Uint8Array;
  private readonly recent: string[] = [];
  private readonly timer: LaunchTimer | undefined;
  private readonly openEnergy: CudaParts['energy'];
  private energy: EnergyCounter | undefined;

  constructor({ driver, compiler, blas, staging, keptUploads, energy, profile = true }: CudaParts) {
    this.driver = driver;
    this.openEnergy = energy;
    this.scratchBytes = Math.floor(driver.device.totalBytes * SCRATCH);
    this.compiler = compiler;
    this.main = new Arena(driver);
    this.arena = this.main;
    this.staging = staging ?? new Staging(driver);
    this.keptUploads = keptUploads ?? (() => new KeptUploads(driver));
    this.blas = blas((bytes) => this.take(bytes, 'workspace of cublasLt'));
    this.packedBytes = new Uint8Array(this.packed.view.buffer);
    if (debug === 2 && profile) {
      const times = new KernelTimes();
      const timer = new LaunchTimer(driver, times);
      this.timer = timer;
      process.once('exit', () => {
        timer.collect();
        times.print(this.name);
      });
    }
  }

  joules(): number | undefined {
    this.energy ??= this.openEnergy?.(this.driver.device.pciAddress);
    return this.energy?.();
  }

  alloc(dtype: DType, length: number): CudaMemory {
    return new CudaMemory(dtype, length, this.take(length * bytesOf[dtype], `${dtype}[${length}]`), this.arena);
  }

  free(base: Memory): void {
    markFreed(base);
    const { arena, address } = base as CudaMemory;
    this.give(arena, address);
  }

  private take(bytes: number, what: string): number {
    const address = this.arena.take(bytes, what);
    if (address === 0) throw this.outOfMemory(bytes);
    if (this.arena === this.main) this.use(this.main.sizeOf(address));
    return address;
  }

  private give(arena: Arena, address: number): void {
    const bytes = arena.give(address);
    if (arena === this.main) this.use(-bytes);
  }

  private use(bytes: number): void {
    this.usage.bytes += bytes;
    this.usage.peakBytes = Math.max(this.usage.peakBytes, this.usage.bytes);
  }

  private outOfMemory(bytes: number): BackendError {
    const gib = (n: number) => `${(n / 2 ** 30).toFixed(2)} GiB`;
    const holders = this.arena
      .holders()
      .slice(0, 5)
      .map(({ what, count, bytes: held }) => `${count} x ${what} = ${gib(held)}`);
    return new BackendError(
      `cuda: out of memory for ${gib(bytes)}: ${gib(this.usage.bytes)} of ${gib(this.driver.device.totalBytes)} are in use ` +
        `here, most of it ${holders.join(', ') || 'by nothing'}. Fewer rows, train.activation_checkpointing=true or bfloat16 need less`,
    );
  }

  write(to: Memory, from: HostArray): void {
    checkHost(to, from);
    const bytes = bytesIn(from);
    if (bytes.length === 0) return;
    (this.kept ?? this.staging).upload((to as CudaMemory).address, bytes);
  }

  zero(memory: Memory): void {
    const { address, dtype, length } = memory as CudaMemory;
    if (length > 0) this.driver.zero(address, length * bytesOf[dtype]);
  }

  async read(from: Memory, into: HostArray): Promise<void> {
    if (this.kept) throw new BackendError('cuda: a tensor is read inside a capture, expected only launches there');
    checkHost(from, into);
    const bytes = bytesIn(into);
    if (bytes.length === 0) return;
    try {
      await this.staging.download(bytes, (from as CudaMemory).address);
    } catch (cause) {
      throw this.located(cause);
    }
  }

  launch(kernel: AnyKernel, type: FloatType, args: (Memory | null)[], sizes: number[], scalars: number[]): void {
    const { workspaces, launches } = this.prepare(kernel, type, args, sizes, scalars);
    const addresses = args.map((arg) => (arg ? (arg as CudaMemory).address : 0));
    if (this.kept) for (const arg of args) if (arg) this.used.add(arg.base);
    const scratch = workspaces.map((bytes) => this.take(bytes, `workspace of ${kernel.name}`));
    const places = [...addresses, ...scratch];
    this.recent.push(kernel.name);
    if (this.recent.length > RECENT) this.recent.shift();
    try {
      for (const launch of launches) {
        const run = () => {
          if (launch.kind === 'launch') this.start(this.load(launch), places);
          else {
            const { a, b, c, scales } = launch;
            const at = {
              ...{ a: places[a]!, b: places[b]!, c: places[c]! },
              ...(scales && { scales: { a: places[scales.a]!, b: places[scales.b]! } }),
            };
            this.blas.multiply(launch, at, this.kept ? undefined : this.borrow);
          }
        };
        if (this.timer) this.timer.measure(timedName(kernel, launch), run);
        else run();
        if (debug >= 3) this.driver.synchronize();
      }
    } catch (cause) {
      const named = dimOrder(kernel).map((dim, i) => `${dim}=${sizes[i]}`);
      throw new BackendError(`${kernel.name} ${type}, sizes ${named.join(' ')}: ${(cause as Error).message}`, {
        cause,
      });
    } finally {
      for (const address of scratch) this.give(this.arena, address);
    }
  }

  private prepare(
    kernel: AnyKernel,
    type: FloatType,
    args: (Memory | null)[],
    sizes: number[],
    scalars: number[],
  ): Prepared {
    let calls = this.prepared.get(kernel);
    if (!calls) this.prepared.set(kernel, (calls = new Map()));
    let key = type as string;
    for (const arg of args) key += arg ? '+' : '-';
    for (const size of sizes) key += ` ${size}`;
    for (const scalar of scalars) key += ` ${scalar}`;
    let prepared = calls.get(key);
    if (!prepared) {
      const names = Object.keys(argumentsOf(kernel));
      const call = {
        type,
        sizes: Object.fromEntries(dimOrder(kernel).map((dim, i) => [dim, sizes[i]!])),
        scalars: Object.fromEntries(Object.keys(kernel.scalars).map((name, i) => [name, scalars[i]!])),
        absent: new Set(names.filter((_, i) => !args[i])),
      };
      prepared = prepare(kernel, call, this.driver.device);
      if (calls.size >= MOST_PREPARED) calls.clear();
      calls.set(key, prepared);
    }
    return prepared;
  }

  private load(launch: PreparedLaunch): Ready {
    let ready = this.ready.get(launch);
    if (!ready) {
      const { specialisation, entry, sharedBytes } = launch;
      const handle = this.driver.entry(this.module(specialisation), entry);
      // Other sizes' launches of this kernel stay possible.
      if (sharedBytes > (this.shared.get(handle) ?? DEFAULT_SHARED)) {
        this.driver.allowShared(handle, sharedBytes);
        this.shared.set(handle, sharedBytes);
      }
      ready = { ...launch, handle };
      this.ready.set(launch, ready);
    }
    return ready;
  }

  private module(what: Specialisation): number {
    const key = `${what.source} ${what.type} ${JSON.stringify(what.defines)}`;
    let module = this.modules.get(key);
    if (module === undefined) {
      module = this.driver.load(this.compiler.compile(what));
      this.modules.set(key, module);
    }
    return module;
  }

  private start(ready: Ready, places: readonly number[]): void {
    const { handle, template, pointers, boxes, offsets } = ready;
    const { view } = this.packed;
    this.packedBytes.set(template);
    for (const [offset, place, bytes = 0] of pointers) {
      const address = places[place]! + bytes;
      view.setUint32(offset, address % 2 ** 32, true);
      view.setUint32(offset + 4, address / 2 ** 32, true);
    }
    for (const matrix of boxes)
      this.driver.describeBoxes({ ...matrix, address: places[matrix.place]! }, this.packedBytes, matrix.offset);
    this.packed.bytes = template.length;
    this.packed.offsets = offsets;
    this.driver.launch(handle, ready, this.packed);
  }

  private readonly borrow: Borrow = (bytes) => {
    const address = this.main.take(bytes, 'search of an algorithm');
    return address === 0 ? undefined : { address, giveBack: () => void this.main.give(address) };
  };

  durations(work: () => void, runs: number): number[] {
    const { driver } = this;
    const events = Array.from({ length: runs + 1 }, () => driver.createEvent({ timing: true }));
    for (const [i, event] of events.entries()) {
      if (i > 0) work();
      driver.record(event);
    }
    driver.synchronize();
    const found = events.slice(1).map((event, i) => driver.milliseconds(events[i]!, event));
    for (const event of events) driver.destroyEvent(event);
    return found;
  }

  capture(work: () => void): Captured {
    // Launches of a graph are neither timed nor waited for.
    if (debug >= 2) return { run: work, dispose() {} };
    if (this.kept) throw new BackendError('cuda: a capture inside a capture, expected one at a time');
    this.driver.synchronize();
    this.main.trim();
    const arena = new Arena(this.driver);
    const kept = this.keptUploads();
    this.arena = arena;
    this.kept = kept;
    const held: Memory[] = [];
    let graph = 0;
    try {
      this.driver.beginCapture();
      try {
        work();
        held.push(...[...this.used].filter((base) => !base.isFreed)); // others were for the launches alone
      } finally {
        graph = this.driver.endCapture();
      }
    } catch (error) {
      if (graph !== 0) this.driver.destroyGraph(graph);
      arena.dispose();
      kept.dispose();
      throw error;
    } finally {
      this.arena = this.main;
      this.kept = undefined;
      this.used.clear();
    }
    const bytes = arena.mapped;
    this.use(bytes);
    return {
      run: () => {
        checkHeld(held);
        this.recent.push('a captured graph');
        if (this.recent.length > RECENT) this.recent.shift();
        this.driver.runGraph(graph);
      },
      dispose: () => {
        this.driver.synchronize();
        this.driver.destroyGraph(graph);
        arena.dispose();
        kept.dispose();
        this.use(-bytes);
      },
    };
  }

  offers(kernel: AnyKernel): boolean {
    return isFor(kernel, this.driver.device);
  }

  /** Returns idle memory to the driver. */
  trim(): void {
    this.synchronize();
    this.main.trim();
  }

  peakFlops(type: FloatType): number | undefined {
    return peakFlops(this.driver.device.name, type);
  }

  resetPeak(): void {
    this.usage.peakBytes = this.usage.bytes;
  }

  /** Waits for everything launched so far. @throws BackendError if some of it failed */
  synchronize(): void {
    try {
      this.driver.synchronize();
    } catch (cause) {
      throw this.located(cause);
    }
  }

  /** An error of earlier launches, with what is known of where it comes from. */
  private located(cause: unknown): BackendError {
    return new BackendError(
      `cuda: ${(cause as Error).message}; launched last: ${this.recent.join(', ')}` +
        (debug >= 3 ? '' : '. DEBUG=3 waits for each launch and names the one that fails'),
      { cause },
    );
  }
}

const timedName = (kernel: AnyKernel, launch: Prepared['launches'][number]) =>
  launch.kind === 'gemm'
    ? `${kernel.name} ${launch.m} x ${launch.n} x ${launch.k}`
    : `${kernel.name} ${launch.entry} ${Object.values(launch.specialisation.defines).join(' ')}`;

const bytesIn = (host: HostArray) => new Uint8Array(host.buffer, host.byteOffset, host.byteLength);
