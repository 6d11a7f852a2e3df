/**
 * Decoder steps whose tokens the host chooses, with beams and processors: recorded once in a decoding that goes on for long
 * enough, then replayed. Launching a step's kernels one by one takes longer than running them.
 */
import type { Backend, Captured } from '../../backend/backend.ts';
import { copyTo } from '../../tensor/copy.ts';
import { dispose, scope } from '../../tensor/scope.ts';
import { Tensor } from '../../tensor/tensor.ts';

/** Steps that a decoding has taken before one is recorded, and those that must be left: by what a recording costs. */
const graphs = { first: 3, left: 12 };
const lists = { first: 1, left: 4 };

/** A step: logits of the tokens after `ids`, i32 [1,R], or what is made of them; what else it reads lies in device memory. */
type Step = (ids: Tensor) => Tensor;

/** The recorded step of one decoding, if it comes to that. */
export class Replay {
  private readonly backend: Backend;
  private readonly recordable: boolean;
  private steps = 0;
  private recorded: { ids: Tensor; logits: Tensor; graph: Captured } | undefined;

  constructor(backend: Backend, { recordable }: { recordable: boolean }) {
    this.backend = backend;
    this.recordable = recordable && (backend.capture ?? backend.list) !== undefined;
  }

  /** The step's result, to be given to `release` before the next one; at most `left` steps will follow. */
  step(ids: Int32Array, left: number, step: Step): Tensor {
    if (this.recorded?.ids.length !== ids.length) {
      const worth = this.backend.capture ? graphs : lists;
      const logits = scope(() => step(Tensor.from(this.backend, 'i32', [1, ids.length], ids)));
      if (this.recordable && !this.recorded && ++this.steps >= worth.first && left >= worth.left)
        this.record(step, ids.length, logits);
      return logits;
    }
    const { ids: given, logits, graph } = this.recorded;
    given.write(ids);
    graph.run();
    return logits;
  }

  /** Gives a step's logits back. */
  release(logits: Tensor): void {
    if (logits !== this.recorded?.logits) dispose(logits);
  }

  /** Records a step of as many rows as one that has run. */
  private record(step: Step, rows: number, { shape, dtype }: Tensor): void {
    if (!this.backend.capture) {
      const ids = scope(() => Tensor.empty(this.backend, 'i32', [1, rows]));
      let logits: Tensor | undefined;
      const graph = this.backend.list!(() => void (logits = scope(() => step(ids))));
      this.recorded = { ids, logits: logits!, graph };
      return;
    }
    const { ids, logits } = scope(() => ({
      ids: Tensor.empty(this.backend, 'i32', [1, rows]),
      logits: Tensor.empty(this.backend, dtype, shape),
    }));
    const graph = this.backend.capture!(() => scope(() => void copyTo(step(ids), logits)));
    this.recorded = { ids, logits, graph };
  }

  /** Forgets the recorded step: those that follow are others. */
  restart(): void {
    this.dispose();
    this.recorded = undefined;
    this.steps = 0;
  }

  dispose(): void {
    if (!this.recorded) return;
    const { ids, logits, graph } = this.recorded;
    graph.dispose();
    dispose(ids, logits);
  }
}
