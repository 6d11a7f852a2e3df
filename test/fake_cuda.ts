/** A driver without a device: host memory instead of the GPU's, and a list of what was asked. Copies happen at once. */
import { CudaBackend } from '../src/backend/cuda/cuda.ts';
import {
  type BoxedMatrix,
  DEFAULT_SHARED,
  type Driver,
  type LaunchShape,
  type PackedArguments,
} from '../src/backend/cuda/driver.ts';
import { KeptUploads, Staging } from '../src/backend/cuda/staging.ts';

/** Page-locked addresses start here, so that they are told from device addresses. */
const HOST = 2 ** 45;

export class FakeDriver implements Driver {
  private readonly entries = new Map<string, number>();
  private readonly allowed = new Map<number, number>();
  readonly device = {
    name: 'fake',
    pciAddress: '0000:00:00.0',
    driverVersion: 13000,
    totalBytes: 1 << 30,
    arch: 90,
    multiprocessors: 132,
    sharedBytes: 232_448,
  };
  readonly stream = 1;
  /** What ran on the stream, in order. */
  readonly log: string[] = [];
  /** Bytes behind mapped addresses. */
  mappedBytes = 0;
  /** Mapping more than this fails. */
  limit = this.device.totalBytes;
  /** Events that are not done yet. */
  readonly waiting = new Set<number>();
  private captured: string[] | undefined;
  private readonly graphs = new Map<number, string[]>();
  private readonly values = new Map<number, Uint8Array>();
  private readonly blocks = new Map<number, ArrayBuffer>();
  private next = 1;
  private address = 2 ** 32;
  private hostAddress = HOST;

  /** Notes work of the stream: in the graph while one is being captured. */
  run(what: string): void {
    (this.captured ?? this.log).push(what);
  }
  view = (address: number): ArrayBuffer => this.blocks.get(address)!;
  reserve(bytes: number): number {
    const start = this.address;
    this.address += bytes;
    return start;
  }
  unreserve(): void {}
  map(_: number, bytes: number): number {
    if (this.mappedBytes + bytes > this.limit) return 0;
    this.mappedBytes += bytes;
    return this.next++;
  }
  unmap(_: number, bytes: number): void {
    this.mappedBytes -= bytes;
  }
  allocateHost(bytes: number): number {
    const address = this.hostAddress;
    this.hostAddress += bytes;
    this.blocks.set(address, new ArrayBuffer(bytes));
    return address;
  }
  freeHost(address: number): void {
    this.blocks.delete(address);
  }
  private host(address: number, bytes: number): Uint8Array {
    for (const [start, block] of this.blocks)
      if (address >= start && address + bytes <= start + block.byteLength)
        return new Uint8Array(block, address - start, bytes);
    throw new Error(`no page-locked memory at ${address}`);
  }
  upload(to: number, from: number, bytes: number): void {
    if (!this.captured) this.values.set(to, this.host(from, bytes).slice());
    this.run(`upload ${bytes} to ${to}`);
  }
  download(into: number | ArrayBufferView, from: number, bytes: number): void {
    const target =
      typeof into === 'number' ? this.host(into, bytes) : new Uint8Array(into.buffer, into.byteOffset, bytes);
    target.fill(0);
    target.set(this.values.get(from)?.subarray(0, bytes) ?? []);
    this.run(`download ${bytes}`);
  }
  zero(at: number, bytes: number): void {
    this.run(`zero ${bytes} at ${at}`);
  }
  createEvent(): number {
    return this.next++;
  }
  destroyEvent(): void {}
  record(event: number): void {
    this.run(`record ${event}`);
  }
  isDone(event: number): boolean {
    return !this.waiting.has(event);
  }
  wait(event: number): void {
    this.waiting.delete(event);
    this.log.push(`wait ${event}`);
  }
  milliseconds(from: number, to: number): number {
    return to - from;
  }
  load(): number {
    return this.next++;
  }
  entry(module: number, name: string): number {
    const key = `${module} ${name}`;
    const entry = this.entries.get(key) ?? this.next++;
    this.entries.set(key, entry);
    return entry;
  }
  allowShared(entry: number, bytes: number): void {
    this.allowed.set(entry, bytes);
  }
  describeBoxes({ address }: BoxedMatrix, into: Uint8Array, at: number): void {
    new DataView(into.buffer).setBigUint64(at, BigInt(address), true);
  }
  launch(entry: number, { grid, block, sharedBytes }: LaunchShape, args: PackedArguments): void {
    if (sharedBytes > (this.allowed.get(entry) ?? DEFAULT_SHARED))
      throw new Error(`${sharedBytes} bytes of shared memory`);
    const addresses = Array.from({ length: args.bytes >> 3 }, (_, i) => Number(args.view.getBigUint64(8 * i, true)));
    this.run(`launch ${grid.join('x')} ${block} ${sharedBytes} (${addresses.join(' ')})`);
  }
  synchronize(): void {}
  beginCapture(): void {
    this.captured = [];
  }
  endCapture(): number {
    const graph = this.next++;
    this.graphs.set(graph, this.captured!);
    this.captured = undefined;
    return graph;
  }
  runGraph(graph: number): void {
    this.log.push(...this.graphs.get(graph)!);
  }
  destroyGraph(graph: number): void {
    this.graphs.delete(graph);
  }
}

/** A backend over a fake driver; products are noted in its log. */
export function fakeCuda(): { backend: CudaBackend; driver: FakeDriver } {
  const driver = new FakeDriver();
  const backend = new CudaBackend({
    driver,
    compiler: { compile: () => new Uint8Array(8), compileAll: async () => {} },
    blas: () => ({
      multiply: ({ m, n, k }, { a, b, c }) => driver.run(`gemm ${m} ${n} ${k} (${a} ${b} ${c})`),
    }),
    staging: new Staging(driver, driver.view),
    keptUploads: () => new KeptUploads(driver, driver.view),
  });
  return { backend, driver };
}
