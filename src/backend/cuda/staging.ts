/** Page-locked host memory between typed arrays and the device, so that copies run beside everything else. */
import { setImmediate, setTimeout } from 'node:timers/promises';
import { viewOf } from '../../util/native.ts';
import type { Driver } from './driver.ts';

/** How foreign memory becomes a typed array: replaced in tests without a device. */
export type View = (address: number, bytes: number) => ArrayBuffer;

interface HostBlock {
  address: number;
  bytes: Uint8Array;
}

/** Half of the upload buffer: one is filled while the device reads the other. */
const HALF = 8 << 20;
/** Every copy starts at a multiple of this. */
const ALIGNMENT = 64;
/** Larger reads go straight to their destination, which blocks until they are done. */
const LARGE_READ = 16 << 20;
const SMALLEST_READ = 4096;
/** A read is polled for without a pause for this long, then once per millisecond. */
const EAGER_MILLISECONDS = 2;

/** Copies in stream order through page-locked memory: uploads through two halves of a ring, downloads with a poll. */
export class Staging {
  private readonly driver: Driver;
  private readonly view: View;
  private halves: { block: HostBlock; event: number; pending: boolean }[] | undefined;
  private half = 0;
  private filled = 0;
  private readonly idle = new Map<number, HostBlock[]>();

  constructor(driver: Driver, view: View = viewOf) {
    this.driver = driver;
    this.view = view;
  }

  /** Copies host bytes to the device in stream order; the array may change as soon as this returns. */
  upload(to: number, from: Uint8Array): void {
    for (let done = 0; done < from.length; ) {
      const count = Math.min(from.length - done, HALF);
      const { address, bytes } = this.room(count);
      bytes.set(done === 0 && count === from.length ? from : from.subarray(done, done + count));
      this.driver.upload(to + done, address, count);
      done += count;
    }
  }

  /** Copies device bytes to the host as they are at this point of the stream. */
  async download(into: Uint8Array, from: number): Promise<void> {
    if (into.length > LARGE_READ) {
      this.driver.download(into, from, into.length);
      this.driver.synchronize();
      return;
    }
    const size = Math.max(SMALLEST_READ, 2 ** Math.ceil(Math.log2(into.length)));
    const block = this.idle.get(size)?.pop() ?? this.host(size);
    const event = this.driver.createEvent({ timing: false });
    try {
      this.driver.download(block.address, from, into.length);
      this.driver.record(event);
      await this.done(event);
      into.set(block.bytes.subarray(0, into.length));
    } finally {
      this.driver.destroyEvent(event);
      const blocks = this.idle.get(size);
      if (blocks) blocks.push(block);
      else this.idle.set(size, [block]);
    }
  }

  private async done(event: number): Promise<void> {
    const began = performance.now();
    while (!this.driver.isDone(event)) {
      if (performance.now() - began < EAGER_MILLISECONDS) await setImmediate();
      else await setTimeout(1);
    }
  }

  /** Room for an upload; waits until the device has read what was there. */
  private room(count: number): HostBlock {
    this.halves ??= [0, 1].map(() => ({
      block: this.host(HALF),
      event: this.driver.createEvent({ timing: false }),
      pending: false,
    }));
    if (this.filled + count > HALF) {
      const left = this.halves[this.half]!;
      this.driver.record(left.event);
      left.pending = true;
      this.half = 1 - this.half;
      this.filled = 0;
      const next = this.halves[this.half]!;
      if (next.pending) this.driver.wait(next.event);
      next.pending = false;
    }
    const { address, bytes } = this.halves[this.half]!.block;
    const start = this.filled;
    this.filled += Math.ceil(count / ALIGNMENT) * ALIGNMENT;
    return { address: address + start, bytes: bytes.subarray(start, start + count) };
  }

  private host(bytes: number): HostBlock {
    const address = this.driver.allocateHost(bytes);
    return { address, bytes: new Uint8Array(this.view(address, bytes)) };
  }
}

/** Host values that a captured graph copies again at each run: they stay where they are. */
export class KeptUploads {
  private readonly driver: Driver;
  private readonly view: View;
  private readonly blocks: number[] = [];

  constructor(driver: Driver, view: View = viewOf) {
    this.driver = driver;
    this.view = view;
  }

  upload(to: number, from: Uint8Array): void {
    if (from.length === 0) return;
    const address = this.driver.allocateHost(from.length);
    this.blocks.push(address);
    new Uint8Array(this.view(address, from.length)).set(from);
    this.driver.upload(to, address, from.length);
  }

  dispose(): void {
    for (const address of this.blocks) this.driver.freeHost(address);
    this.blocks.length = 0;
  }
}
