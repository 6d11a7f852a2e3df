/** What can be asked of an optimizer, and what is meant when it is not said. The only place of these defaults. */
import { UsageError } from '../util/errors.ts';

interface CommonOptions {
  /** The schedule's base rate; the trainer hands the scheduled rate to `step`. */
  learning_rate?: number;
  /** Decoupled: an update takes learning_rate * weight_decay of each value. */
  weight_decay?: number;
  /** Parameters whose name contains one of these are not decayed. */
  no_decay?: readonly string[];
  /**
   * How changes smaller than half a bf16 step survive in bf16 parameters: 'master' keeps the values in float32 beside them
   * (4 more bytes per parameter), 'kahan' what rounding took (2), 'stochastic' rounds up or down by chance, 'nearest' loses
   * them. Without effect on float32 parameters.
   */
  rounding?: 'nearest' | 'kahan' | 'stochastic' | 'master';
  /** Of stochastic rounding. */
  seed?: number;
}

interface AdamOptions extends CommonOptions {
  betas?: readonly [number, number];
  /** adamw adds it to the bias-corrected root of the second moment, adamw_scale and muon to the uncorrected one. */
  eps?: number;
  /** Type of both moments; bfloat16 needs bf16 parameters. */
  state_dtype?: 'float32' | 'bfloat16';
}

/** AdamW as torch.optim.AdamW, which decays every parameter. */
export interface AdamWOptions extends AdamOptions {
  name: 'adamw';
}

/** AdamW whose rate is scaled by max(1e-3, RMS) of each original matrix: nanoT5's and FAT5's AdamWScale. */
export interface AdamWScaleOptions extends AdamOptions {
  name: 'adamw_scale';
}

/** Adafactor as in transformers, with scale_parameter and without relative_step. */
export interface AdafactorOptions extends CommonOptions {
  name: 'adafactor';
  /** Added to squared gradients; smallest RMS of a parameter that scales its rate. */
  eps?: readonly [number, number];
  /** Largest RMS of an update before the rate. */
  clip_threshold?: number;
  /** Exponent of the step in the moments' decay, 1 - step^decay_rate. */
  decay_rate?: number;
}

/** Muon for matrices inside transformer blocks, AdamWScale for everything else. */
export interface MuonOptions extends AdamOptions {
  name: 'muon';
  momentum?: number;
  /** Newton-Schulz iterations. */
  iterations?: number;
  /** RMS of a Muon update relative to learning_rate * RMS(parameter), 0.2 being Adam's usual one. */
  update_rms?: number;
}

export type OptimizerOptions = AdamWOptions | AdamWScaleOptions | AdafactorOptions | MuonOptions;
export type OptimizerName = OptimizerOptions['name'];
/** Options with every default filled in. */
export type Resolved<O extends OptimizerOptions> = Required<O>;

/** Norms, biases and the relative attention bias, by name, as in nanoT5 and FAT5. */
const NO_DECAY = ['bias', 'LayerNorm', 'layernorm', 'layer_norm', 'ln'] as const;

const common = { weight_decay: 0, no_decay: NO_DECAY, rounding: 'kahan', seed: 0 } as const;
const adam = { betas: [0.9, 0.999], state_dtype: 'float32' } as const;

export const optimizerDefaults: { [N in OptimizerName]: Resolved<Extract<OptimizerOptions, { name: N }>> } = {
  adamw: { name: 'adamw', learning_rate: 1e-3, ...common, ...adam, eps: 1e-8, weight_decay: 0.01, no_decay: [] },
  adamw_scale: { name: 'adamw_scale', learning_rate: 5e-3, ...common, ...adam, eps: 1e-6 },
  adafactor: {
    name: 'adafactor',
    learning_rate: 1e-2,
    ...common,
    eps: [1e-30, 1e-3],
    clip_threshold: 1,
    decay_rate: -0.8,
  },
  muon: {
    name: 'muon',
    learning_rate: 5e-3,
    ...common,
    ...adam,
    eps: 1e-6,
    momentum: 0.95,
    iterations: 5,
    update_rms: 0.2,
  },
};

/** Fills in defaults. @throws UsageError for an unknown optimizer, an option it does not have, a value out of range */
export function resolveOptions(options: OptimizerOptions): Resolved<OptimizerOptions> {
  const defaults = optimizerDefaults[options.name];
  if (!defaults) {
    const names = Object.keys(optimizerDefaults).join(', ');
    throw new UsageError(`optimizer: "${options.name}" is unknown, expected one of ${names}`);
  }
  for (const key of Object.keys(options))
    if (!(key in defaults))
      throw new UsageError(
        `optimizer ${options.name}: has no option "${key}", expected one of ${Object.keys(defaults).join(', ')}`,
      );
  const resolved = { ...defaults, ...options } as Resolved<OptimizerOptions>;
  const check = (key: string, value: number, holds: boolean, expected: string) => {
    if (!holds) throw new UsageError(`optimizer ${options.name}: ${key} is ${value}, expected ${expected}`);
  };
  check('weight_decay', resolved.weight_decay, resolved.weight_decay >= 0, 'at least 0');
  if ('betas' in resolved) {
    for (const beta of resolved.betas) check('betas', beta, beta >= 0 && beta < 1, '0 to below 1');
    check('eps', resolved.eps, resolved.eps > 0, 'above 0');
  } else {
    for (const eps of resolved.eps) check('eps', eps, eps > 0, 'above 0');
    check('clip_threshold', resolved.clip_threshold, resolved.clip_threshold > 0, 'above 0');
    check('decay_rate', resolved.decay_rate, resolved.decay_rate < 0, 'below 0');
  }
  if ('momentum' in resolved) {
    check('momentum', resolved.momentum, resolved.momentum >= 0 && resolved.momentum < 1, '0 to below 1');
    check(
      'iterations',
      resolved.iterations,
      Number.isInteger(resolved.iterations) && resolved.iterations > 0,
      'a positive integer',
    );
    check('update_rms', resolved.update_rms, resolved.update_rms > 0, 'above 0');
  }
  return resolved;
}

/** The weight decay of each parameter. */
export function decayOf(
  names: readonly string[],
  { weight_decay, no_decay }: Pick<Required<CommonOptions>, 'weight_decay' | 'no_decay'>,
): number[] {
  return names.map((name) => (no_decay.some((part) => name.includes(part)) ? 0 : weight_decay));
}
