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
/** The same where launches are listed: of so few tokens the host's part is a tenth of a pass. Their shapes are not padded. */
const FEW_TOKENS = 64;
/** Shapes that are remembered. */
const SHAPES = 16;

interface Recording {
  input: StackInput;
  states: Tensor;
  graph: Captured;
  allocated: Map<Memory, Backend>;
}

/** One kind of pass over sources, with a recording for each of the shapes that came last. */
export class RecordedEncoder {
  private readonly backend: Backend;
  private readonly pass: (input: StackInput) => Tensor;
  private readonly anchor: () => Memory;
  private anchored: Memory | undefined;
  /** By shape, what was used last at the end; undefined after a first pass. */
  private readonly seen = new Map<string, Recording | undefined>();

  /** For passes that read nothing but parameters and their input. `anchor` is a parameter's memory: where it moves, all have. */
  constructor(backend: Backend, pass: (input: StackInput) => Tensor, anchor: () => Memory) {
    this.backend = backend;
    this.pass = pass;
    this.anchor = anchor;
  }

  /** States [B,S,D] of a source, the caller's own. */
  states(source: Source): Tensor {
    const { capture, list } = this.backend;
    const wide = capture ? bucketed(source) : source;
    if (capture ? wide.values.length >= MANY_TOKENS : !list || wide.values.length > FEW_TOKENS)
      return this.launched(source);
    if (this.anchored !== this.anchor()) this.dispose();
    this.anchored = this.anchor();
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
    if (!this.backend.capture) return this.listed(wide);
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

  private listed(source: Source): Recording {
    const { result, allocated } = collect(() => {
      const input = uploadSource(this.backend, source);
      let states: Tensor | undefined;
      const graph = this.backend.list!(() => void (states = scope(() => this.pass(input))));
      return { input, states: states!, graph };
    });
    return { ...result, allocated };
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
