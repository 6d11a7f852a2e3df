/**
 * Decoder steps whose tokens the host chooses, with beams and processors: recorded once in a decoding that goes on for long
 * enough, then replayed. Launching a step's kernels one by one takes longer than running them.
 */
import type { Backend, Captured } from '../../backend/backend.ts';
import { copyOf, copyTo } from '../../tensor/copy.ts';
import { dispose, scope } from '../../tensor/scope.ts';
import { Tensor } from '../../tensor/tensor.ts';

/** Steps that a decoding has taken before one is recorded, and those that must be left. */
const FIRST = 3;
const LEFT = 12;

/** A step: logits of the tokens after `ids`, i32 [1,R]; what else it reads lies in device memory. */
type Step = (ids: Tensor) => Tensor;

/** The recorded step of one decoding, if it comes to that. */
export class Replay {
  private readonly backend: Backend;
  private readonly recordable: boolean;
  private steps = 0;
  private recorded: { ids: Tensor; logits: Tensor; graph: Captured } | undefined;

  constructor(backend: Backend, { recordable }: { recordable: boolean }) {
    this.backend = backend;
    this.recordable = recordable && backend.capture !== undefined;
  }

  /** The step's logits, which no scope frees; at most `left` steps will follow. */
  step(ids: Int32Array, left: number, step: Step): Tensor {
    if (this.recorded?.ids.length !== ids.length) {
      const logits = scope(() => step(Tensor.from(this.backend, 'i32', [1, ids.length], ids)));
      if (this.recordable && !this.recorded && ++this.steps >= FIRST && left >= LEFT) this.record(step, logits);
      return logits;
    }
    const { ids: given, logits, graph } = this.recorded;
    given.write(ids);
    graph.run();
    return scope(() => copyOf(logits));
  }

  /** Records a step of as many rows as one that has run. */
  private record(step: Step, { shape, dtype }: Tensor): void {
    const { ids, logits } = scope(() => ({
      ids: Tensor.empty(this.backend, 'i32', shape.slice(0, -1)),
      logits: Tensor.empty(this.backend, dtype, shape),
    }));
    const graph = this.backend.capture!(() => scope(() => void copyTo(step(ids), logits)));
    this.recorded = { ids, logits, graph };
  }

  dispose(): void {
    if (!this.recorded) return;
    const { ids, logits, graph } = this.recorded;
    graph.dispose();
    dispose(ids, logits);
  }
}
