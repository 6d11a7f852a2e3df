/** What a device must do. Backends know kernels as values, never by name. */
import { BackendError } from '../util/errors.ts';
import { bytesOf, type DType, type FloatType, type HostArray } from './dtype.ts';
import type { AnyKernel } from './kernel.ts';

/** A piece of device memory holding `length` elements of one type. */
export interface Memory {
  readonly dtype: DType;
  readonly length: number;
  /** The allocation this is a part of; itself if it is one. */
  readonly base: Memory;
  /** Of an allocation: whether it was given back, so that its numbers may be somebody else's. */
  isFreed: boolean;
  /** Elements [start, start + length) of this memory, sharing it. */
  slice(start: number, length: number): Memory;
}

/** @throws BackendError unless a host array holds as many elements of a memory's type as that */
export function checkHost({ dtype, length }: Memory, host: HostArray): void {
  if (length !== host.length || bytesOf[dtype] !== host.BYTES_PER_ELEMENT)
    throw new BackendError(
      `memory: ${host.length} host elements of ${host.BYTES_PER_ELEMENT} bytes, expected ${length} of ${dtype}`,
    );
}

/** Notes that an allocation is given back. @throws BackendError if it was before: it may be somebody else's by now */
export function markFreed(base: Memory): void {
  if (base.isFreed)
    throw new BackendError(`memory: ${base.dtype}[${base.length}] is freed, expected once, it was freed before`);
  base.isFreed = true;
}

/** @throws BackendError if one of the allocations that recorded launches use was given back */
export function checkHeld(bases: Iterable<Memory>): void {
  for (const { isFreed, dtype, length } of bases)
    if (isFreed)
      throw new BackendError(
        `recorded launches: use ${dtype}[${length}], which was given back (disposed of, or weights that moved to be trained), ` +
          'expected that it stays until they are done',
      );
}

/** A file as memory of a device. */
export interface MappedFile {
  /** `length` elements from a byte on, which is a multiple of their size. Not to be freed: `close` ends them all. */
  at(dtype: DType, position: number, length: number): Memory;
  /** Says that a part will be read soon, and whole. */
  expect(part: Memory): void;
  /** Says that a part will not be read soon: it need not take memory until then. */
  forget(part: Memory): void;
  close(): void;
}

/** What runs kernels: memory, launches in order, copies. */
export interface Backend {
  readonly name: 'reference' | 'cpu' | 'cuda';
  /** Scratch memory that one operation should at most take: small beside a model, large beside a launch's cost. */
  readonly scratchBytes: number;
  /** Contents are undefined. 256-byte aligned. @throws BackendError with the sizes in use when memory runs out */
  alloc(dtype: DType, length: number): Memory;
  /** Gives an allocation back; it may be reused once work already launched on it is done. */
  free(base: Memory): void;
  /** Copies host values to the device; lengths must agree. */
  write(to: Memory, from: HostArray): void;
  /** Fills with zeros. */
  zero(memory: Memory): void;
  /** Copies device values to the host after the work that writes them; lengths must agree. */
  read(from: Memory, into: HostArray): Promise<void>;
  /**
   * An open file of so many bytes as memory that is read when it is used; absent where a device has memory of its own,
   * undefined where the system cannot.
   */
  map?(descriptor: number, bytes: number): MappedFile | undefined;
  /** Copies float memory, rounded to the type of `to`; there where `map` is. */
  convert?(to: Memory, from: Memory): void;
  /**
   * Runs a kernel in launch order; may return before the work is done. `args` follow the contract: inputs, updates,
   * outputs, null where absent; `sizes` its letters, `scalars` its scalars.
   */
  launch(kernel: AnyKernel, type: FloatType, args: (Memory | null)[], sizes: number[], scalars: number[]): void;
  /** Whether it has a kernel that is for some GPUs alone; absent where it has none of those. */
  offers?(kernel: AnyKernel): boolean;
  /**
   * Records what `work` launches, without running it, to run it again at little cost; absent where that gains nothing. What
   * it allocates keeps its places; host values that it writes are those of now at every run. The work must have run once.
   */
  capture?(work: () => void): Captured;
  /**
   * The same where launches cost little themselves, but much of the host's time before them: what `work` launches becomes one
   * call. What it allocates and does not free is not the recording's.
   */
  list?(work: () => void): Captured;
  /** Milliseconds that the device takes for each of `runs` calls of `work`, one after the other; waits for them. */
  durations?(work: () => void, runs: number): number[];
  /** The device's greatest rate of matrix products in FLOP/s, where it is known. */
  peakFlops?(type: FloatType): number | undefined;
  /** Energy that the device has taken since some moment before; absent or undefined where it does not tell. */
  joules?(): number | undefined;
  /** Bytes handed out and not freed; the largest that was since the last reset. */
  readonly usage: { bytes: number; peakBytes: number };
  resetPeak(): void;
}

/** Work that was recorded. */
export interface Captured {
  run(): void;
  /** Gives the memory of the recorded work back. */
  dispose(): void;
}
