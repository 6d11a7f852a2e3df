/** AdamW and AdamWScale over a group of parameters: one launch, two with the scale. Formula: ops/adamw. */
import { adamw, adamwCompact, adamwHyper } from '../ops/adamw/adamw.ts';
import { writeParameterNorms } from '../ops/global_norm/global_norm.ts';
import { run } from '../tensor/autograd.ts';
import { type ParameterPlace, type TrainedPart, zeros } from '../tensor/parameters.ts';
import { dispose } from '../tensor/scope.ts';
import { UsageError } from '../util/errors.ts';
import { type Group, persistent, roundingState, type Shared, tablesOf, type Update } from './group.ts';
import { type AdamWOptions, type AdamWScaleOptions, decayOf, type Resolved } from './options.ts';

type Options = Omit<Resolved<AdamWOptions>, 'name'> & { name: (AdamWOptions | AdamWScaleOptions)['name'] };

/** @throws UsageError if a bfloat16 state is asked for float32 parameters */
export function adamwGroup(parameters: TrainedPart, places: readonly ParameterPlace[], options: Options): Group {
  const { backend, dtype, values } = parameters;
  const compact = options.state_dtype === 'bfloat16';
  if (compact && dtype !== 'bf16')
    throw new UsageError(
      `optimizer ${options.name}: state_dtype is bfloat16, expected float32 since the parameters are float32`,
    );
  const { chunks, lengths, stateLength } = tablesOf(parameters, places);
  const names = places.map((p) => p.name);
  const decay = persistent(backend, 'f32', [names.length], decayOf(names, options));
  const scaled = options.name === 'adamw_scale';
  const norms = scaled ? zeros(backend, 'f32', names.length) : undefined;
  const hyper = zeros(backend, 'f32', adamwHyper.length);
  const moment = () => zeros(backend, compact ? 'bf16' : 'f32', stateLength);
  const state = {
    first_moment: moment(),
    second_moment: moment(),
    ...roundingState(parameters, places, stateLength, options.rounding),
  };
  const [beta1, beta2] = options.betas;

  return {
    state,
    prepare({ step, learningRate, maxNorm }: Update) {
      const bias1 = 1 - beta1 ** step;
      const bias2 = Math.sqrt(1 - beta2 ** step);
      const numbers: Record<(typeof adamwHyper)[number], number> = {
        beta1,
        oneMinusBeta1: 1 - beta1,
        beta2,
        oneMinusBeta2: 1 - beta2,
        step: (learningRate * bias2) / bias1,
        // AdamW adds eps to the corrected root: multiply through by the correction.
        eps: scaled ? options.eps : options.eps * bias2,
        rate: learningRate,
        after: scaled ? 1 : 0,
        maxNorm,
      };
      hyper.write(adamwHyper.map((name) => numbers[name]));
    },
    launch({ norm, rng }: Shared) {
      if (norms) writeParameterNorms(values, chunks, norms);
      const { first_moment: first, second_moment: second, compensation, master } = state;
      run(compact ? (adamwCompact as unknown as typeof adamw) : adamw, {
        gradients: parameters.gradients,
        chunks,
        lengths,
        decay,
        norms,
        norm,
        hyper,
        rng,
        values,
        first,
        second,
        compensation,
        master,
      });
    },
    dispose: () => dispose(chunks, lengths, decay, hyper, ...(norms ? [norms] : []), ...Object.values(state)),
  };
}
