/** From a run's settings and a tokenizer to batches: for training, and the fixed held-out ones. */
import { type Denoiser, fullLength, noiseOf } from '../data/denoiser.ts';
import type { CollatorOptions, Objective, SourceState } from '../data/objective.ts';
import { type BatchSource, createBatchSource, createEvaluationBatches } from '../data/source.ts';
import { t5Config } from '../model/config.ts';
import type { Tokenizer } from '../tokenizer/tokenizer.ts';
import type { Batch } from '../util/batch.ts';
import { UsageError } from '../util/errors.ts';
import type { TrainConfig } from './config.ts';

/** The run's training batches, from the start or from the position in a checkpoint. @throws UsageError, FormatError */
export function trainingBatches(config: TrainConfig, tokenizer: Tokenizer, state: unknown): BatchSource {
  const options = collatorOptions(config, tokenizer);
  return createBatchSource({ ...options, seed: config.train.seed, state: (state ?? null) as SourceState | null });
}

/** Seed of the held-out masks: the same for every run, so that runs can be compared. */
const HELD_OUT_SEED = 0;

/** The held-out batches with their masks. @throws UsageError if the data has no held-out part, FormatError */
export function evaluationBatches(config: TrainConfig, tokenizer: Tokenizer): Batch[] {
  return createEvaluationBatches({
    ...collatorOptions(config, tokenizer),
    seed: HELD_OUT_SEED,
    batches: config.evaluate.batches,
  });
}

/** Target positions of a row. */
export function targetLength({ data }: TrainConfig): number {
  if (data.objective === 'ul2') return data.max_labels_length!;
  const denoiser: Denoiser = { mean_span: data.mean_span!, noise_density: data.noise_density!, proportion: 1 };
  const { noise, spans } = noiseOf(
    denoiser,
    fullLength(denoiser, { inputs: data.max_length, labels: Number.POSITIVE_INFINITY }),
  );
  return noise + spans + 1;
}

function collatorOptions(config: TrainConfig, tokenizer: Tokenizer): Omit<CollatorOptions, 'seed'> {
  const model = t5Config(config.model, 'model');
  for (const name of ['eos_token_id', 'pad_token_id'] as const)
    if (model[name] !== tokenizer[name])
      throw new UsageError(
        `model.${name} is ${model[name]}, expected ${tokenizer[name]} as ${config.tokenizer} has it`,
      );
  if (model.vocab_size < tokenizer.vocab_size)
    throw new UsageError(
      `model.vocab_size is ${model.vocab_size}, expected at least the ${tokenizer.vocab_size} of ${config.tokenizer}`,
    );
  return {
    folder: config.data.folder,
    objective: objectiveOf(config, tokenizer, model.decoder_start_token_id),
    rows: config.train.rows,
    vocab_size: model.vocab_size,
    tokenizer_hash: tokenizer.hash,
  };
}

function objectiveOf({ data, tokenizer: folder }: TrainConfig, tokenizer: Tokenizer, start: number): Objective {
  const ids = {
    eos_token_id: tokenizer.eos_token_id,
    pad_token_id: tokenizer.pad_token_id,
    decoder_start_token_id: start,
    sentinels: [...tokenizer.sentinels],
  };
  const { objective, folder: _, denoisers, ...settings } = data;
  if (objective === 'span_corruption') return { ...ids, ...settings, name: objective } as Objective;
  const withIds = denoisers!.map(({ prefix, ...denoiser }) => {
    const prefixIds = prefix === '' ? [] : tokenizer.encode(prefix, { add_special_tokens: false });
    if (prefixIds.length > 1)
      throw new UsageError(
        `data.denoisers: prefix "${prefix}" is ${prefixIds.length} tokens in ${folder}, expected one`,
      );
    return { ...denoiser, prefix: prefixIds } as Denoiser;
  });
  return { ...ids, ...settings, name: objective, denoisers: withIds } as Objective;
}
