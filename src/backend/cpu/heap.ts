/** The CPU backend's memory: large pieces of the system's, handed out in blocks. */
import { FreeBlocks } from '../free_blocks.ts';

/** Every block starts at a multiple of this in its piece. */
const ALIGNMENT = 256;
/** Between large blocks: arrays that are walked side by side are not to lie in the same sets of the first cache level. */
const SHIFT = 1280;
const LARGE = 64 << 10;
/** Pieces are multiples of this, a huge page; the heap grows by at least LEAST_GROWTH, which the system fills as it is used. */
const GRANULE = 2 << 20;
const LEAST_GROWTH = 16 << 20;

/** The system's memory: `alloc` gives 0 when it runs out. */
interface System {
  alloc(bytes: number): number;
  free(address: number): void;
}

/** Blocks are best fit and join their neighbours when given back, so that what was activations becomes caches. */
export class Heap {
  /** Bytes by address. */
  private readonly pieces = new Map<number, number>();
  private readonly idle = new FreeBlocks();
  private readonly system: System;

  constructor(system: System) {
    this.system = system;
  }

  /** Bytes of the block for so many. */
  static sizeOf(bytes: number): number {
    return Math.max(1, Math.ceil(bytes / ALIGNMENT)) * ALIGNMENT + (bytes < LARGE ? 0 : SHIFT);
  }

  /** The address of a block, 0 when memory runs out. */
  take(bytes: number): number {
    return this.idle.take(bytes) || (this.grow(bytes) ? this.idle.take(bytes) : 0);
  }

  give(address: number, bytes: number): void {
    this.idle.give(address, bytes);
  }

  /** Gives free blocks of others back. */
  giveAll(blocks: FreeBlocks): void {
    blocks.moveTo(this.idle);
  }

  /** Returns idle pieces to the system. */
  trim(): void {
    for (const [address, bytes] of this.pieces) {
      if (!this.idle.takeAt(address, bytes)) continue;
      this.pieces.delete(address);
      this.system.free(address);
    }
  }

  private grow(bytes: number): boolean {
    const least = Math.ceil(bytes / GRANULE) * GRANULE;
    const size = Math.max(least, LEAST_GROWTH);
    const address = this.system.alloc(size);
    if (address === 0) return false;
    this.pieces.set(address, size);
    this.idle.give(address, size);
    return true;
  }
}
