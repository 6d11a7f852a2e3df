/** feature-extraction: the encoder's states, one vector per token or per text. sentence-similarity: cosines of the latter. */
import type { T5EncoderModel } from '../model/heads.ts';
import { type ResultTensor, resultTensor } from '../model/result.ts';
import { UsageError } from '../util/errors.ts';
import { inGroups, padded } from '../util/id_rows.ts';
import { suggestion } from '../util/suggest.ts';
import { checkOptions, encodeTexts, type Parts, type Texts, textsOf } from './parts.ts';

/** cls and first_token, eos and last_token are the same; padding counts in none of them. */
export const poolings = ['none', 'mean', 'cls', 'first_token', 'eos', 'last_token'] as const;
export type Pooling = (typeof poolings)[number];

export interface FeatureOptions {
  /** How the vectors of a text's tokens become one: none by default. */
  pooling?: Pooling;
  /** Whether vectors are scaled to length 1: false by default. */
  normalize?: boolean;
}

/** float32 [texts, tokens, d_model], zero behind short texts; [texts, d_model] with pooling. */
export type FeatureExtraction = (texts: Texts, options?: FeatureOptions) => Promise<ResultTensor>;

/** Cosine of each sentence's vector with the source's, in [-1, 1]. */
export type SentenceSimilarity = (source: string, sentences: Texts) => Promise<number[]>;

export const featureExtraction = (parts: Parts<T5EncoderModel>): FeatureExtraction => {
  const { task } = parts;
  return async (given, options = {}) => {
    const texts = textsOf(task, given);
    checkOptions(task, options, ['pooling', 'normalize']);
    const { pooling = 'none', normalize = false } = options;
    if (!poolings.includes(pooling))
      throw new UsageError(`${task}: pooling is "${pooling}", ${suggestion(String(pooling), poolings)}`);
    return features(parts, texts, { pooling, normalize });
  };
};

export const sentenceSimilarity = (parts: Parts<T5EncoderModel>): SentenceSimilarity => {
  const { task, model } = parts;
  return async (source, given) => {
    if (typeof source !== 'string')
      throw new UsageError(`${task}: the source is ${typeof source}, expected a text, then those to compare it with`);
    const sentences = textsOf(task, given);
    const { data } = await features(parts, [source, ...sentences], { pooling: 'mean', normalize: true });
    const size = model.config.d_model;
    return sentences.map((_, i) => {
      let sum = 0;
      for (let k = 0; k < size; k++) sum += data[k]! * data[(i + 1) * size + k]!;
      return sum;
    });
  };
};

async function features(
  parts: Parts<T5EncoderModel>,
  texts: readonly string[],
  { pooling, normalize }: Required<FeatureOptions>,
): Promise<ResultTensor> {
  const { model, batch_size } = parts;
  const size = model.config.d_model;
  const rows = encodeTexts(parts, texts);
  const vectors = await inGroups(
    rows,
    batch_size,
    (ids) => ids.length,
    async (group) => {
      const { last_hidden_state: states } = await model.encode(padded(group, model.config.pad_token_id));
      const data = states.data as Float32Array;
      const columns = states.dims[1]!;
      return group.map((ids, row) => {
        const from = row * columns * size;
        const vector = pooled(data.subarray(from, from + ids.length * size), size, pooling);
        if (normalize) for (let at = 0; at < vector.length; at += size) toUnit(vector.subarray(at, at + size));
        return vector;
      });
    },
  );
  const length = Math.max(...vectors.map((vector) => vector.length));
  const all = new Float32Array(length * texts.length);
  for (const [i, vector] of vectors.entries()) all.set(vector, i * length);
  return resultTensor(pooling === 'none' ? [texts.length, length / size, size] : [texts.length, size], all);
}

/** One vector of a text's states [tokens, size], or a copy of them all. */
function pooled(states: Float32Array, size: number, pooling: Pooling): Float32Array {
  if (pooling === 'none') return states.slice();
  if (pooling === 'cls' || pooling === 'first_token') return states.slice(0, size);
  if (pooling !== 'mean') return states.slice(states.length - size);
  const sums = new Float64Array(size);
  for (let i = 0; i < states.length; i++) sums[i % size]! += states[i]!;
  return Float32Array.from(sums, (sum) => (sum * size) / states.length);
}

/** Scales a vector to length 1; zeros stay. */
function toUnit(vector: Float32Array): void {
  const length = Math.sqrt(vector.reduce((sum, x) => sum + x * x, 0));
  if (length > 0) for (let i = 0; i < vector.length; i++) vector[i]! /= length;
}
