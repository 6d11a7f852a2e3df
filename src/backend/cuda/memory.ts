/**
 * Device memory: arenas of one range of addresses each, into which memory is mapped as it is needed, so that blocks never
 * lie in separate pieces. All work is on one stream, so a freed block may be handed out at once. A captured graph has an
 * arena of its own: nobody else gets its addresses.
 */
import { BackendError } from '../../util/errors.ts';
import type { Memory } from '../backend.ts';
import { bytesOf, type DType } from '../dtype.ts';
import { FreeBlocks } from '../free_blocks.ts';
import type { Driver } from './driver.ts';

/** A block of an arena, or a part of one. */
export class CudaMemory implements Memory {
  readonly dtype: DType;
  readonly length: number;
  readonly address: number;
  readonly arena: Arena;
  readonly base: CudaMemory;
  isFreed = false;
  constructor(dtype: DType, length: number, address: number, arena: Arena, base?: CudaMemory) {
    this.dtype = dtype;
    this.length = length;
    this.address = address;
    this.arena = arena;
    this.base = base ?? this;
  }
  slice(start: number, length: number): CudaMemory {
    return new CudaMemory(this.dtype, length, this.address + start * bytesOf[this.dtype], this.arena, this.base);
  }
}

/** Every block starts at a multiple of this; the driver maps memory in units of GRANULE. */
const ALIGNMENT = 512;
const GRANULE = 2 << 20;
/** An arena grows by at least this much, and by this share of what it has. */
const LEAST_GROWTH = 32 << 20;
const GROWTH = 1 / 256;

/** One range of addresses: blocks are handed out best fit first and join their neighbours when given back. */
export class Arena {
  /** Memory behind the arena, handed out or not. */
  mapped = 0;
  private readonly driver: Driver;
  private readonly start: number;
  private readonly range: number;
  private readonly pieces: { start: number; bytes: number; handle: number }[] = [];
  private readonly idle = new FreeBlocks();
  private readonly taken = new Map<number, { bytes: number; what: string }>();

  constructor(driver: Driver) {
    this.driver = driver;
    this.range = Math.ceil(driver.device.totalBytes / GRANULE) * GRANULE;
    this.start = driver.reserve(this.range);
  }

  /** The smallest idle block that is large enough, or 0 when memory runs out. `what` names it in an error. */
  take(bytes: number, what: string): number {
    const size = Math.max(ALIGNMENT, Math.ceil(bytes / ALIGNMENT) * ALIGNMENT);
    const address = this.idle.take(size) || (this.grow(size) ? this.idle.take(size) : 0);
    if (address === 0) return 0;
    this.taken.set(address, { bytes: size, what });
    return address;
  }

  /** Gives a block back; returns its bytes. */
  give(address: number): number {
    const taken = this.taken.get(address);
    if (!taken) throw new BackendError(`cuda: memory at ${address} is freed twice, or was never allocated`);
    this.taken.delete(address);
    this.idle.give(address, taken.bytes);
    return taken.bytes;
  }

  /** Bytes of a block that is handed out. */
  sizeOf(address: number): number {
    return this.taken.get(address)!.bytes;
  }

  /** Returns idle memory at the end to the driver. The device must be done with it. */
  trim(): void {
    for (let piece = this.pieces.at(-1); piece; piece = this.pieces.at(-1)) {
      if (!this.idle.takeAt(piece.start, piece.bytes)) return;
      this.pieces.pop();
      this.driver.unmap(piece.start, piece.bytes, piece.handle);
      this.mapped -= piece.bytes;
    }
  }

  /** Gives all memory back. The device must be done with it. */
  dispose(): void {
    for (const { start, bytes, handle } of this.pieces) this.driver.unmap(start, bytes, handle);
    this.pieces.length = 0;
    this.idle.clear();
    this.taken.clear();
    this.mapped = 0;
    this.driver.unreserve(this.start, this.range);
  }

  /** What holds the memory: kinds of blocks by their sum, largest first. */
  holders(): { what: string; count: number; bytes: number }[] {
    const kinds = new Map<string, { what: string; count: number; bytes: number }>();
    for (const { what, bytes } of this.taken.values()) {
      const kind = kinds.get(what) ?? { what, count: 0, bytes: 0 };
      kinds.set(what, kind);
      kind.count++;
      kind.bytes += bytes;
    }
    return [...kinds.values()].sort((a, b) => b.bytes - a.bytes);
  }

  private grow(size: number): boolean {
    const end = this.start + this.mapped;
    const round = (bytes: number) => Math.ceil(bytes / GRANULE) * GRANULE;
    const least = round(size - this.idle.before(end));
    for (const bytes of [Math.max(least, LEAST_GROWTH, round(this.mapped * GROWTH)), least]) {
      const handle = this.driver.map(end, bytes);
      if (handle === 0) continue;
      this.pieces.push({ start: end, bytes, handle });
      this.mapped += bytes;
      this.idle.give(end, bytes);
      return true;
    }
    return false;
  }
}
