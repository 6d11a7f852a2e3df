/**
 * Encoder passes for inference on a device that records launches: the second pass of a shape is recorded, later ones are replayed.
 * Few tokens take a GPU less time than launching their kernels one by one. Sources are padded, so that shapes come again.
 */
import type { Backend, Captured, Memory } from '../backend/backend.ts';
import { selectRows } from '../ops/select_rows/select_rows.ts';
import { copyOf, copyTo } from '../tensor/copy.ts';
import { collect, release, scope } from '../tensor/scope.ts';
import { Tensor } from '../tensor/tensor.ts';
import type { StackInput } from './encoder.ts';
import { bucketed, type Source } from './inputs.ts';
import { uploadSource } from './seq2seq.ts';

/** Tokens of a batch, padding included, from which on a device is busy for longer than launching takes. */
const MANY_TOKENS = 8192;
/** Shapes that are remembered. */
const SHAPES = 16;

interface Recording {
  input: StackInput;
  states: Tensor;
  graph: Captured;
  allocated: Map<Memory, Backend>;
}

export class RecordedEncoder {
  private readonly backend: Backend;
  private readonly pass: (input: StackInput) => Tensor;
  /** By shape, what was used last at the end; undefined after a first pass. */
  private readonly seen = new Map<string, Recording | undefined>();

  /** For passes that read nothing but parameters, which stay where they are, and their input. */
  constructor(backend: Backend, pass: (input: StackInput) => Tensor) {
    this.backend = backend;
    this.pass = pass;
  }

  /** States [B,S,D] of a source, the caller's own. */
  states(source: Source): Tensor {
    const wide = bucketed(source);
    if (!this.backend.capture || wide.values.length >= MANY_TOKENS) return this.launched(source);
    const shape = `${wide.rows} ${wide.columns} ${wide.segments ? 'padded' : ''}`;
    const known = this.seen.has(shape);
    const recording = this.seen.get(shape) ?? (known ? this.record(wide) : undefined);
    this.seen.delete(shape);
    this.seen.set(shape, recording);
    if (this.seen.size > SHAPES) this.forget(this.seen.keys().next().value!);
    if (!recording) return scope(() => cut(this.launched(wide), source, wide));
    const { input, states, graph } = recording;
    input.ids.write(wide.values);
    if (wide.segments) input.segments.key!.write(wide.segments);
    graph.run();
    return wide === source ? copyOf(states) : scope(() => cut(states, source, wide));
  }

  dispose(): void {
    for (const shape of [...this.seen.keys()]) this.forget(shape);
  }

  private launched(source: Source): Tensor {
    return scope(() => this.pass(uploadSource(this.backend, source)));
  }

  /** Records a pass of a shape whose kernels have run. What it allocates is its own, whatever scope is open. */
  private record(wide: Source): Recording {
    const { result, allocated } = collect(() => {
      const input = uploadSource(this.backend, wide);
      return { input, states: scope(() => this.pass(input)) };
    });
    try {
      const graph = this.backend.capture!(() => scope(() => void copyTo(this.pass(result.input), result.states)));
      return { ...result, graph, allocated };
    } catch (error) {
      release(allocated);
      throw error;
    }
  }

  private forget(shape: string): void {
    const recording = this.seen.get(shape);
    this.seen.delete(shape);
    if (!recording) return;
    recording.graph.dispose();
    release(recording.allocated);
  }
}

/** The states of a source's own columns. */
function cut(states: Tensor, { rows, columns }: Source, wide: Source): Tensor {
  if (columns === wide.columns) return states;
  const places = Int32Array.from(
    { length: rows * columns },
    (_, i) => Math.floor(i / columns) * wide.columns + (i % columns),
  );
  const indices = Tensor.from(states.backend, 'i32', [rows * columns], places);
  return selectRows(states, indices).view(rows, columns, states.shape[2]!);
}
