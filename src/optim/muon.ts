/** Muon over a group of matrices: per matrix the momentum, the orthogonalisation by GEMMs, the change. Formula: ops/muon. */
import { writeParameterNorms } from '../ops/global_norm/global_norm.ts';
import { muonHyper, muonMomentum, muonUpdate, orthogonalise } from '../ops/muon/muon.ts';
import { run } from '../tensor/autograd.ts';
import { CHUNK } from '../tensor/chunks.ts';
import { alignedLength, type ParameterPlace, type TrainedPart, zeros } from '../tensor/parameters.ts';
import { dispose, scope } from '../tensor/scope.ts';
import { type Group, roundingState, type Shared, tablesOf, type Update } from './group.ts';
import { decayOf, type MuonOptions, type Resolved } from './options.ts';

/**
 * The matrices that Muon takes, those that map hidden states to hidden states inside transformer blocks, and the rest:
 * embeddings, head, norms, relative biases.
 */
export function splitMatrices(places: readonly ParameterPlace[]): Record<'matrices' | 'others', ParameterPlace[]> {
  const isMatrix = ({ name, shape }: ParameterPlace) =>
    shape.length === 2 && /(^|\.)block\.\d+\./.test(name) && !name.includes('bias');
  return { matrices: places.filter(isMatrix), others: places.filter((place) => !isMatrix(place)) };
}

export function muonGroup(
  parameters: TrainedPart,
  matrices: readonly ParameterPlace[],
  options: Resolved<MuonOptions>,
): Group {
  const { backend, values } = parameters;
  const { chunks, lengths, stateLength } = tablesOf(parameters, matrices);
  const norms = zeros(backend, 'f32', matrices.length);
  const hyper = zeros(backend, 'f32', muonHyper.length);
  const decay = decayOf(
    matrices.map((m) => m.name),
    options,
  );
  const kept = roundingState(parameters, matrices, stateLength, options.rounding);
  const state = {
    muon_momentum: zeros(backend, 'f32', stateLength),
    ...(kept.compensation ? { muon_compensation: kept.compensation } : {}),
    ...(kept.master ? { muon_master: kept.master } : {}),
  };

  return {
    state,
    prepare({ learningRate, maxNorm }: Update) {
      const beta = options.momentum;
      const numbers = { beta, oneMinusBeta: 1 - beta, rate: learningRate, maxNorm };
      hyper.write(muonHyper.map((name) => numbers[name]));
    },
    launch({ norm, rng }: Shared) {
      writeParameterNorms(values, chunks, norms);
      let at = 0;
      matrices.forEach(({ shape, offset, length }, index) => {
        scope(() => {
          const { direction } = run(
            muonMomentum,
            {
              gradient: parameters.gradients.part(offset, length),
              norm,
              hyper,
              momentum: state.muon_momentum.part(at, length),
            },
            { sizes: { K: Math.ceil(length / CHUNK) } },
          );
          const orthogonal = orthogonalise(direction.view(...shape), options.iterations);
          run(
            muonUpdate,
            {
              direction: orthogonal.view(length),
              norms: norms.part(index, 1),
              norm,
              hyper,
              rng,
              values: values.part(offset, length),
              compensation: kept.compensation?.part(at, length),
              master: kept.master?.part(at, length),
            },
            {
              scalars: {
                gain: options.update_rms * Math.sqrt(Math.max(...shape)),
                decay: decay[index]!,
                site: index + 1,
              },
            },
          );
          return undefined;
        });
        at += alignedLength(length);
      });
    },
    dispose: () => dispose(chunks, lengths, norms, hyper, ...Object.values(state)),
  };
}
