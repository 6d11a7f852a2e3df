/** Sums over the steps since the last record, and over the whole run; both are part of a checkpoint. */

import { writeGlobalNorm } from '../ops/global_norm/global_norm.ts';
import { zeros } from '../tensor/parameters.ts';
import { dispose } from '../tensor/scope.ts';
import { type Batch, PADDING } from '../util/batch.ts';
import { EnergyMeter } from './energy.ts';
import { stepFlops } from './flops.ts';
import type { TrainRecord } from './metrics.ts';
import type { StepResult, Trainer } from './trainer.ts';

/** Sums since the last record, in the units of StepResult times label tokens or steps. */
const emptyWindow = () => ({
  steps: 0,
  labelTokens: 0,
  loss: 0,
  zLoss: 0,
  correct: 0,
  gradNorm: 0,
  learningRate: 0,
  positions: 0,
  padding: 0,
  flops: 0,
  seconds: 0,
});

/** What a checkpoint keeps of the progress. */
export interface ProgressState {
  label_tokens: number;
  seconds: number;
  window: Record<string, number>;
}

/** Weight of the newest step in the live line's speed. */
const NEWEST = 0.1;

/** Sums of the steps since the last record and since the start, and the rates that follow from them. */
export class Progress {
  private window = emptyWindow();
  private labelTokens = 0;
  private seconds = 0;
  private since = performance.now();
  private readonly energy = new EnergyMeter();
  private smooth: { seconds: number; tokens: number } | undefined;
  private readonly trainer: Trainer;

  constructor(trainer: Trainer, state?: ProgressState) {
    this.trainer = trainer;
    if (!state) return;
    this.window = { ...this.window, ...state.window };
    this.labelTokens = state.label_tokens;
    this.seconds = state.seconds;
  }

  state(): ProgressState {
    return { label_tokens: this.labelTokens, seconds: this.seconds, window: { ...this.window } };
  }

  /** Leaves seconds that were not training out of the speed. */
  pause(seconds: number): void {
    this.since += 1000 * seconds;
    this.seconds += seconds;
  }

  add(result: StepResult, batches: readonly Batch[]): void {
    const now = performance.now();
    const seconds = (now - this.since) / 1000;
    this.since = now;
    const { window } = this;
    window.steps++;
    window.labelTokens += result.tokens;
    window.loss += result.loss * result.tokens;
    window.zLoss += result.z_loss * result.tokens;
    window.correct += result.accuracy * result.tokens;
    window.gradNorm += result.grad_norm;
    window.learningRate = result.learning_rate;
    window.seconds += seconds;
    let tokens = 0;
    for (const batch of batches) {
      const positions = batch.rows * (batch.sourceLength + batch.targetLength);
      const padding = paddingOf(batch);
      window.positions += positions;
      window.padding += padding;
      tokens += positions - padding;
      window.flops += stepFlops(this.trainer.model.config, batch.rows, batch.sourceLength, batch.targetLength);
    }
    this.labelTokens += result.tokens;
    this.seconds += seconds;
    const before = this.smooth ?? { seconds, tokens };
    const mix = (old: number, x: number) => old + NEWEST * (x - old);
    // Apart, not their ratio: results may come two at a time, the second after no time at all.
    this.smooth = { seconds: mix(before.seconds, seconds), tokens: mix(before.tokens, tokens) };
  }

  /** Of the last steps; zeros before the first. */
  speed(): { secondsPerStep: number; tokensPerSecond: number } {
    const { seconds, tokens } = this.smooth ?? { seconds: 0, tokens: 0 };
    return { secondsPerStep: seconds, tokensPerSecond: seconds > 0 ? tokens / seconds : 0 };
  }

  /** The record of the steps since the last one. */
  async record(step: number): Promise<TrainRecord> {
    const { window: w } = this;
    this.window = emptyWindow();
    const { parameters } = this.trainer.model;
    const norm = zeros(parameters.backend, 'f32', 1);
    writeGlobalNorm(parameters.values, norm);
    const [weightNorm] = await norm.read();
    dispose(norm);
    const joules = this.energy.joules();
    const flops = w.flops / w.seconds;
    const peak = parameters.backend.peakFlops?.(parameters.dtype);
    return {
      kind: 'train',
      step,
      loss: w.loss / w.labelTokens,
      z_loss: w.zLoss / w.labelTokens,
      accuracy: w.correct / w.labelTokens,
      grad_norm: w.gradNorm / w.steps,
      weight_norm: weightNorm!,
      learning_rate: w.learningRate,
      seconds_per_step: w.seconds / w.steps,
      tokens_per_second: (w.positions - w.padding) / w.seconds,
      gflops: flops / 1e9,
      ...(peak !== undefined && { mfu: flops / peak }),
      padding: w.padding / w.positions,
      memory_bytes: process.memoryUsage.rss(),
      device_bytes: parameters.backend.usage.peakBytes,
      label_tokens: this.labelTokens,
      seconds: this.seconds,
      ...(joules !== undefined && { joules }),
    };
  }
}

/** Padded source and target positions. */
function paddingOf({ segments, decoder_segments: decoder, targetLength, rows, tokens }: Batch): number {
  const count = (s: Int32Array) => s.reduce((n, segment) => n + (segment === PADDING ? 1 : 0), 0);
  return (segments ? count(segments) : 0) + (decoder ? count(decoder) : rows * targetLength - tokens);
}
