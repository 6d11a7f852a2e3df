/** Reference backend: runs each kernel's float64 definition. The slowest, the judge. 16-bit types are rounded when stored. */
import { BackendError } from '../util/errors.ts';
import { type Backend, checkHost, type Memory, markFreed } from './backend.ts';
import { type DType, type FloatType, fromHost, type HostArray, roundTo, toHost } from './dtype.ts';
import { type AnyKernel, argumentsOf, dimOrder } from './kernel.ts';

class ReferenceMemory implements Memory {
  readonly dtype: DType;
  readonly values: Float64Array;
  readonly base: ReferenceMemory;
  isFreed = false;
  constructor(dtype: DType, values: Float64Array, base?: ReferenceMemory) {
    this.dtype = dtype;
    this.values = values;
    this.base = base ?? this;
  }
  get length(): number {
    return this.values.length;
  }
  slice(start: number, length: number): ReferenceMemory {
    return new ReferenceMemory(this.dtype, this.values.subarray(start, start + length), this.base);
  }
}

class ReferenceBackend implements Backend {
  readonly name = 'reference';
  readonly scratchBytes = 32 << 20;
  readonly usage = { bytes: 0, peakBytes: 0 };

  alloc(dtype: DType, length: number): Memory {
    let values: Float64Array<ArrayBuffer>;
    try {
      values = new Float64Array(length).fill(Number.NaN);
    } catch (cause) {
      throw new BackendError(`reference: out of memory for ${8 * length} bytes, ${this.usage.bytes} bytes are in use`, {
        cause,
      });
    }
    this.usage.bytes += 8 * length;
    this.usage.peakBytes = Math.max(this.usage.peakBytes, this.usage.bytes);
    return new ReferenceMemory(dtype, values);
  }

  free(base: Memory): void {
    markFreed(base);
    this.usage.bytes -= 8 * base.length;
  }

  write(to: Memory, from: HostArray): void {
    checkHost(to, from);
    const { dtype, values } = to as ReferenceMemory;
    values.set(fromHost(dtype, from));
  }

  zero(memory: Memory): void {
    (memory as ReferenceMemory).values.fill(0);
  }

  async read(from: Memory, into: HostArray): Promise<void> {
    checkHost(from, into);
    const { dtype, values } = from as ReferenceMemory;
    into.set(toHost(dtype, values));
  }

  launch(kernel: AnyKernel, type: FloatType, args: (Memory | null)[], sizes: number[], scalars: number[]): void {
    const names = Object.keys(argumentsOf(kernel));
    const arrays: Record<string, Float64Array | undefined> = {};
    names.forEach((name, i) => {
      arrays[name] = (args[i] as ReferenceMemory | null)?.values;
    });
    const sizeOf = Object.fromEntries(dimOrder(kernel).map((dim, i) => [dim, sizes[i]!]));
    const scalarOf = Object.fromEntries(Object.keys(kernel.scalars).map((name, i) => [name, scalars[i]!]));
    kernel.reference(arrays as Record<string, Float64Array>, sizeOf, scalarOf);
    if (type === 'f32') return;
    for (const name of Object.keys({ ...kernel.updates, ...kernel.outputs })) {
      const memory = args[names.indexOf(name)] as ReferenceMemory | null;
      if (memory?.dtype === type) memory.values.set(memory.values.map(roundTo[type]));
    }
  }

  resetPeak(): void {
    this.usage.peakBytes = this.usage.bytes;
  }
}

/** A reference backend; memory is the process's own. */
export const openReference = (): Backend => new ReferenceBackend();
