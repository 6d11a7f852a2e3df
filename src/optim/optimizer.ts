/**
 * Optimizers: named groups of flat launches behind one interface. An update reads the trained part's gradients, already
 * averaged, and changes its values; parameters without a gradient buffer are left alone and have no state.
 * Parameters whose rate is scaled alike are one group, or two with Muon.
 */
import { writeGlobalNorm } from '../ops/global_norm/global_norm.ts';
import { type ParameterPlace, type Parameters, type TrainedPart, zeros } from '../tensor/parameters.ts';
import { dispose } from '../tensor/scope.ts';
import type { Tensor } from '../tensor/tensor.ts';
import { UsageError } from '../util/errors.ts';
import { adafactorGroup } from './adafactor.ts';
import { adamwGroup } from './adamw.ts';
import { type Group, persistent } from './group.ts';
import { muonGroup, splitMatrices } from './muon.ts';
import { type OptimizerName, type OptimizerOptions, type Resolved, resolveOptions } from './options.ts';

/** What may change from update to update; a norm of null clips nothing. */
export interface StepOptions {
  learning_rate: number;
  max_grad_norm: number | null;
}

/** Updates of a model; launches are always the same, so that they can be recorded. */
export interface Optimizer {
  readonly name: OptimizerName;
  /** Completed updates. Set it when restoring a checkpoint. */
  steps: number;
  /**
   * One update at a learning rate, after scaling the gradients so that their global norm is at most max_grad_norm.
   * T5 differs: gradients whose norm is not finite change nothing, where PyTorch would spread the NaN.
   */
  step(options: StepOptions): void;
  /** The two halves of `step`: counts the update and copies its numbers to the device; launches it, always the same. */
  prepare(options: StepOptions): void;
  launch(): void;
  /** f32[1]: the global gradient norm of the last step, before clipping. */
  readonly gradientNorm: Tensor;
  /** Named tensors to checkpoint; restored by writing into them, and by setting `steps`. */
  state(): Record<string, Tensor>;
  /** Gives the memory of the state back; a second time it does nothing. */
  dispose(): void;
}

/**
 * @param rateScale what the learning rate of a parameter is multiplied by, by its name
 * @throws UsageError for unknown or contradictory options, or when no parameter is trainable
 */
export function createOptimizer(
  parameters: Parameters,
  options: OptimizerOptions,
  rateScale: (name: string) => number = () => 1,
): Optimizer {
  const resolved = resolveOptions(options);
  const trained = parameters.trained();
  if (!trained)
    throw new UsageError(
      `optimizer ${options.name}: no parameter is trainable, expected Parameters.trainable() before`,
    );
  const groups = scaledGroups(trained, resolved, rateScale);
  const gradientNorm = zeros(parameters.backend, 'f32', 1);
  const rng =
    parameters.dtype === 'bf16' && resolved.rounding === 'stochastic'
      ? persistent(parameters.backend, 'i32', [2], [resolved.seed, 0])
      : undefined;
  return {
    name: options.name,
    steps: 0,
    gradientNorm,
    step(options) {
      this.prepare(options);
      this.launch();
    },
    prepare({ learning_rate: learningRate, max_grad_norm: maxNorm }) {
      this.steps++;
      rng?.write([resolved.seed, this.steps]);
      const update = { step: this.steps, learningRate, maxNorm: maxNorm ?? Number.POSITIVE_INFINITY };
      for (const { group, scale } of groups) group.prepare({ ...update, learningRate: scale * learningRate });
    },
    launch() {
      writeGlobalNorm(trained.gradients, gradientNorm);
      for (const { group } of groups) group.launch({ norm: gradientNorm, rng });
    },
    state: () => Object.assign({}, ...groups.map(({ state }) => state)) as Record<string, Tensor>,
    dispose() {
      if (gradientNorm.memory.base.isFreed) return;
      for (const { group } of groups) group.dispose();
      dispose(gradientNorm, ...(rng ? [rng] : []));
    },
  };
}

interface ScaledGroup {
  group: Group;
  scale: number;
  /** The group's state by its names in checkpoints. */
  state: Record<string, Tensor>;
}

/** The groups of every scale there is, by the order in which the scales come first. */
function scaledGroups(
  trained: TrainedPart,
  options: Resolved<OptimizerOptions>,
  rateScale: (name: string) => number,
): ScaledGroup[] {
  const places = new Map<number, ParameterPlace[]>();
  for (const place of trained.places) {
    const scale = rateScale(place.name);
    places.set(scale, [...(places.get(scale) ?? []), place]);
  }
  const named = (i: number, { state }: Group) =>
    places.size === 1
      ? state
      : Object.fromEntries(Object.entries(state).map(([name, tensor]) => [`scale_${i}.${name}`, tensor]));
  return [...places].flatMap(([scale, some], i) =>
    groupsOf(trained, some, options).map((group) => ({ group, scale, state: named(i, group) })),
  );
}

function groupsOf(
  parameters: TrainedPart,
  places: readonly ParameterPlace[],
  options: Resolved<OptimizerOptions>,
): Group[] {
  switch (options.name) {
    case 'adamw':
    case 'adamw_scale':
      return [adamwGroup(parameters, places, options)];
    case 'adafactor':
      return [adafactorGroup(parameters, places, options)];
    case 'muon': {
      const { matrices, others } = splitMatrices(places);
      return [
        ...(matrices.length > 0 ? [muonGroup(parameters, matrices, options)] : []),
        ...(others.length > 0 ? [adamwGroup(parameters, others, { ...options, name: 'adamw_scale' })] : []),
      ];
    }
  }
}
