/** Adafactor over a group of parameters: three launches. Formula: ops/adafactor. */
import { adafactor, adafactorHyper, adafactorMoments } from '../ops/adafactor/adafactor.ts';
import { adafactorTable, PLACE_COLUMNS } from '../ops/adafactor/table.ts';
import { writeParameterNorms } from '../ops/global_norm/global_norm.ts';
import { run } from '../tensor/autograd.ts';
import { type ParameterPlace, type TrainedPart, zeros } from '../tensor/parameters.ts';
import { dispose, scope } from '../tensor/scope.ts';
import { type Group, persistent, roundingState, type Shared, tablesOf, type Update } from './group.ts';
import { type AdafactorOptions, decayOf, type Resolved } from './options.ts';

export function adafactorGroup(
  parameters: TrainedPart,
  group: readonly ParameterPlace[],
  options: Resolved<AdafactorOptions>,
): Group {
  const { backend, values } = parameters;
  const P = group.length;
  const names = group.map((p) => p.name);
  const table = adafactorTable(group);
  const { chunks: flat, lengths } = tablesOf(parameters, group);
  const places = persistent(backend, 'i32', [P, PLACE_COLUMNS], table.places);
  const chunks = persistent(backend, 'i32', [table.chunks.length / 4, 4], table.chunks);
  const decay = persistent(backend, 'f32', [P], decayOf(names, options));
  const norms = zeros(backend, 'f32', P);
  const hyper = zeros(backend, 'f32', adafactorHyper.length);
  const state = {
    moments: zeros(backend, 'f32', table.moments),
    ...roundingState(parameters, group, table.state, options.rounding),
  };
  const [eps1, eps2] = options.eps;

  return {
    state,
    prepare({ step, learningRate, maxNorm }: Update) {
      const forgotten = step ** options.decay_rate;
      const numbers: Record<(typeof adafactorHyper)[number], number> = {
        decay: 1 - forgotten,
        oneMinusDecay: forgotten,
        eps1,
        eps2,
        threshold: options.clip_threshold,
        rate: learningRate,
        maxNorm,
      };
      hyper.write(adafactorHyper.map((name) => numbers[name]));
    },
    launch({ norm, rng }: Shared) {
      writeParameterNorms(values, flat, norms);
      const { moments, compensation, master } = state;
      const gradients = parameters.gradients;
      scope(() => {
        const { factors } = run(
          adafactorMoments,
          { gradients, places, chunks, norm, hyper, moments },
          { sizes: { W: table.columnSums } },
        );
        run(adafactor, {
          gradients,
          places,
          chunks,
          factors,
          lengths,
          decay,
          norms,
          norm,
          hyper,
          rng,
          values,
          compensation,
          master,
        });
        return undefined;
      });
    },
    dispose: () => dispose(flat, lengths, places, chunks, decay, norms, hyper, ...Object.values(state)),
  };
}
