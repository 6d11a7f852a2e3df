/** A group: some parameters, the state of one algorithm for them, and its update. An optimizer is a list of groups. */
import type { Backend } from '../backend/backend.ts';
import type { DType } from '../backend/dtype.ts';
import { emaUpdate } from '../ops/ema/ema.ts';
import { run } from '../tensor/autograd.ts';
import { chunkTable } from '../tensor/chunks.ts';
import { alignedLength, type ParameterPlace, type TrainedPart, zeros } from '../tensor/parameters.ts';
import type { Tensor } from '../tensor/tensor.ts';
import type { AdamWOptions } from './options.ts';

/** What changes from update to update. */
export interface Update {
  /** 1 for the first. */
  step: number;
  learningRate: number;
  /** The largest L2 norm of all gradients that is not clipped, Infinity for no clipping. */
  maxNorm: number;
}

/** What every update finds at the same places on the device. */
export interface Shared {
  /** f32[1]: L2 norm of all gradients. */
  norm: Tensor;
  /** i32[2], seed and step, where values are rounded by chance. */
  rng: Tensor | undefined;
}

/** The parameters of one algorithm. */
export interface Group {
  /** Copies an update's numbers to the device. */
  prepare(update: Update): void;
  /** Launches the update of the group's parameters: always the same launches, so that they can be recorded. */
  launch(shared: Shared): void;
  /** What a checkpoint must hold, by name. */
  readonly state: Record<string, Tensor>;
  dispose(): void;
}

/** Memory for some host values that no scope owns. */
export function persistent(
  backend: Backend,
  dtype: DType,
  shape: readonly number[],
  values: ArrayLike<number>,
): Tensor {
  const tensor = zeros(backend, dtype, values.length).view(...shape);
  tensor.write(values);
  return tensor;
}

/** The device tables of a group's places, see tensor/chunks.ts. */
export interface Tables {
  chunks: Tensor;
  lengths: Tensor;
  /** Elements of one state vector. */
  stateLength: number;
}

/** The tables of some places, on the device. */
export function tablesOf(parameters: TrainedPart, places: readonly ParameterPlace[]): Tables {
  const { chunks, lengths, state } = chunkTable(places);
  return {
    chunks: persistent(parameters.backend, 'i32', [chunks.length / 4, 4], chunks),
    lengths: persistent(parameters.backend, 'i32', [lengths.length], lengths),
    stateLength: state,
  };
}

/**
 * The state that keeps what 16-bit values lose by rounding, by its name in checkpoints: none, `compensation` in the values'
 * type, or `master`, float32 copies of the values as they are now. Laid out as the other state.
 */
export function roundingState(
  { backend, dtype, values }: TrainedPart,
  places: readonly ParameterPlace[],
  stateLength: number,
  rounding: AdamWOptions['rounding'],
): { compensation?: Tensor; master?: Tensor } {
  if (dtype === 'f32') return {};
  if (rounding === 'kahan') return { compensation: zeros(backend, dtype, stateLength) };
  if (rounding !== 'master') return {};
  const master = zeros(backend, 'f32', stateLength);
  let at = 0;
  for (const { offset, length } of places) {
    const average = master.part(at, length);
    run(emaUpdate, { values: values.part(offset, length), average }, { scalars: { rest: 1 } }); // 0 + (value - 0)
    at += alignedLength(length);
  }
  return { master };
}
