/** Work done without a device, to learn what it needs compiled: then all of it is compiled at once, on several threads. */
import type { Backend } from '../backend.ts';
import { CudaBackend } from './cuda.ts';
import type { DeviceProperties, Driver } from './driver.ts';
import type { Specialisation } from './program.ts';
import { KeptUploads, Staging } from './staging.ts';

/** Takes everything and does nothing; what is read back is zero. */
class IdleDriver implements Driver {
  readonly device: DeviceProperties;
  readonly stream = 0;
  private readonly blocks = new Map<number, ArrayBuffer>();
  private next = 1 << 20;

  constructor(device: DeviceProperties) {
    this.device = device;
  }

  private range(bytes: number): number {
    const start = this.next;
    this.next += Math.ceil(bytes / (1 << 20)) * (1 << 20);
    return start;
  }

  readonly view = (address: number): ArrayBuffer => this.blocks.get(address)!;
  reserve(bytes: number): number {
    return this.range(bytes);
  }
  unreserve(): void {}
  map(): number {
    return 1;
  }
  unmap(): void {}
  allocateHost(bytes: number): number {
    const address = this.range(bytes);
    this.blocks.set(address, new ArrayBuffer(bytes));
    return address;
  }
  freeHost(address: number): void {
    this.blocks.delete(address);
  }
  upload(): void {}
  download(): void {}
  zero(): void {}
  createEvent(): number {
    return 1;
  }
  destroyEvent(): void {}
  record(): void {}
  isDone(): boolean {
    return true;
  }
  wait(): void {}
  milliseconds(): number {
    return 0;
  }
  load(): number {
    return 1;
  }
  describeBoxes(): void {}
  entry(): number {
    return 1;
  }
  allowShared(): void {}
  launch(): void {}
  synchronize(): void {}
  beginCapture(): void {}
  endCapture(): number {
    return 1;
  }
  runGraph(): void {}
  destroyGraph(): void {}
}

/** What `work` would compile on a device. It finds zeros wherever it reads, and what it throws is left to the real run. */
async function rehearse(
  device: DeviceProperties,
  work: (backend: Backend) => Promise<unknown>,
): Promise<Specialisation[]> {
  const found: Specialisation[] = [];
  const driver = new IdleDriver(device);
  const compile = (what: Specialisation) => {
    found.push(what);
    return new Uint8Array(0);
  };
  const backend = new CudaBackend({
    driver,
    compiler: { compile, compileAll: async () => {} },
    blas: () => ({ multiply() {} }),
    staging: new Staging(driver, driver.view),
    keptUploads: () => new KeptUploads(driver, driver.view),
    profile: false,
  });
  try {
    await work(backend);
  } catch {
    // the real run says what is wrong
  }
  return found;
}

/** Compiles at once what several pieces of work need on a backend. */
export async function compileAhead(
  { driver, compiler }: Pick<CudaBackend, 'driver' | 'compiler'>,
  works: readonly ((backend: Backend) => Promise<unknown>)[],
): Promise<void> {
  const found: Specialisation[] = [];
  for (const work of works) found.push(...(await rehearse(driver.device, work)));
  await compiler.compileAll(found);
}
