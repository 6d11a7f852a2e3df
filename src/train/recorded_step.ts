/**
 * A training step as one recording: forward, backward, clipping and update of batches of one shape, on a device that can
 * replay launches. All that changes from step to step is copied to fixed places first; what the step measured is read back
 * while the next one may already run.
 */
import type { Captured } from '../backend/backend.ts';
import { type DeviceBatch, writeBatch } from '../model/seq2seq.ts';
import type { T5ForConditionalGeneration } from '../model/t5.ts';
import type { Optimizer } from '../optim/optimizer.ts';
import { accumulate } from '../tensor/accumulate.ts';
import { run } from '../tensor/autograd.ts';
import { zeros } from '../tensor/parameters.ts';
import { dispose } from '../tensor/scope.ts';
import type { Tensor } from '../tensor/tensor.ts';
import type { Batch } from '../util/batch.ts';

/** Sums of a step: NLL, z-loss, right tokens, tokens. */
const STATS = 4;

/** What decides whether a recording fits: shapes and which segments there are. */
export const shapeOfStep = (batches: readonly Batch[]): string =>
  batches
    .map(({ rows, sourceLength, targetLength, segments, decoder_segments }) =>
      [rows, sourceLength, targetLength, segments ? 's' : '', decoder_segments ? 't' : ''].join(' '),
    )
    .join();

/** The recording for one shape of batches, and the places that its inputs are written to. */
export class RecordedStep {
  private readonly model: T5ForConditionalGeneration;
  private readonly optimizer: Optimizer;
  private readonly seed: number;
  private readonly places: DeviceBatch[];
  private readonly rngs: Tensor[];
  private readonly factor: Tensor;
  private readonly stats: Tensor;
  private readonly recording: Captured | undefined;
  private step = 0;

  /** For batches of the shape of these, which has been trained on once. The gradients of the parameters are the step's. */
  constructor(
    model: T5ForConditionalGeneration,
    optimizer: Optimizer,
    { batches, seed }: { batches: readonly Batch[]; seed: number },
  ) {
    const { backend } = model;
    this.model = model;
    this.optimizer = optimizer;
    this.seed = seed;
    this.places = batches.map((batch) => model.placeBatch(batch));
    this.rngs = batches.map(() => zeros(backend, 'i32', 2));
    this.factor = zeros(backend, 'f32', 1);
    this.stats = zeros(backend, 'f32', STATS);
    // Randomised positions are drawn on the host for each step.
    if (!model.config.use_randomized_position_encoding) this.recording = backend.capture?.(() => this.launch());
  }

  /** Launches a step; `factor` is what each label's loss counts. The promise gives the sums and the gradient's norm. */
  run(
    batches: readonly Batch[],
    options: { factor: number; learning_rate: number; max_grad_norm: number | null },
  ): Promise<{ sums: number[]; norm: number }> {
    this.step = this.optimizer.steps * batches.length;
    batches.forEach((batch, i) => {
      writeBatch(this.places[i]!, batch);
      this.rngs[i]!.write([this.seed | 0, (this.step + i) | 0]);
    });
    this.factor.write([options.factor]);
    this.optimizer.prepare(options);
    if (this.recording) this.recording.run();
    else this.launch();
    const read = Promise.all([this.stats.read(), this.optimizer.gradientNorm.read()]);
    return read.then(([sums, [norm]]) => ({ sums: [...sums], norm: norm! }));
  }

  private launch(): void {
    const { model, optimizer, factor, stats, seed } = this;
    model.parameters.zeroGradients();
    this.places.forEach((place, i) => {
      const random = { seed, step: this.step + i, rng: this.rngs[i]! };
      const part = model.accumulateGradientsAt(place, { factor, random });
      run(accumulate, { x: part, y: stats }, { scalars: { beta: i === 0 ? 0 : 1 } });
      dispose(part);
    });
    model.parameters.finishGradients();
    optimizer.launch();
  }

  dispose(): void {
    this.recording?.dispose();
    const batches = this.places.flatMap(({ source, target, labels }) =>
      [source, target].flatMap(({ ids, segments, positions }) => [ids, segments.key, positions]).concat(labels),
    );
    dispose(...batches.filter((t) => t !== undefined), ...this.rngs, this.factor, this.stats);
  }
}
